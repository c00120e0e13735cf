"""What the program makes of costs: predictions, a plot and a section of the page."""

from dataclasses import asdict

import pytest

from benchmarks import scaling
from benchmarks.parts.document import marks
from benchmarks.rollout_model.costs import Costs
from benchmarks.simulator import scaling_report

COSTS = Costs(
    step_s=0.002,
    render_s=0.02,
    restore_s=0.001,
    request_s=0.0005,
    inference_s=0.05,
    reply_s=0.0003,
    observation_bytes=30_000,
    slowdown=0.1,
    spread=0.1,
)


@pytest.fixture
def small_fleet(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scaling, "HOSTS", (1, 4))
    monkeypatch.setattr(scaling, "FLEET_SLOTS", (8, 32))
    monkeypatch.setattr(scaling_report, "SHOWN_HOSTS", (1, 4))
    monkeypatch.setattr(scaling_report, "SHOWN_SLOTS", (8, 32))


def found() -> dict:
    row = {"pool": "process", "workers": 2, "slots": 4}
    return {
        "costs": asdict(COSTS),
        "max_steps": 100,
        "batch_size": 8,
        "validation": [row | {"measured": 100.0, "predicted": 109.0, "error": 0.09}],
        "largest_error": 0.09,
        "fleet": scaling.fleet(10, COSTS, batch_size=8),
    }


@pytest.mark.usefixtures("small_fleet")
class TestPredictions:
    def test_a_second_learner_doubles_what_a_saturated_policy_gives(self):
        rows = {(r["hosts"], r["learners"], r["slots"]): r for r in scaling.fleet(10, COSTS, 1)}

        # a sample per call of 50 ms: 20 policy steps per second and learner, 120 episodes per minute
        assert rows[4, 1, 32]["bottleneck"] == "inference"
        assert rows[4, 1, 32]["episodes_per_minute"] == pytest.approx(120, rel=0.05)
        assert rows[4, 2, 32]["episodes_per_minute"] == pytest.approx(240, rel=0.05)

    def test_costs_of_another_machine_can_be_brought(self, tmp_path, capsys):
        costs, found, plot = (tmp_path / name for name in ("c.json", "f.json", "p.png"))
        scaling.write_json(costs, {"costs": asdict(COSTS)}, is_quick=True)

        arguments = ["--costs", str(costs), "--inference-s", "0", "--json", str(found)]
        assert scaling.main([*arguments, "--plot", str(plot)]) == 0

        assert scaling.read_costs(costs) == COSTS
        assert "4 hosts, 8 learners" in capsys.readouterr().out
        assert found.is_file()
        assert plot.stat().st_size > 1000

    def test_the_page_keeps_what_is_around_the_figures(self, tmp_path, monkeypatch):
        page = tmp_path / "docs" / "results.md"
        page.parent.mkdir()
        begin, end = marks(scaling_report.SECTION)
        page.write_text(f"before\n\n{begin}\nold\n{end}\n\nafter\n")
        monkeypatch.setattr(scaling_report, "ROOT", tmp_path)
        monkeypatch.setattr(scaling_report, "DOCUMENT", page)
        monkeypatch.setattr(scaling_report, "IMAGE", tmp_path / "scaling.png")

        scaling_report.publish(found())

        text = page.read_text()
        assert text.startswith("before\n")
        assert text.endswith("after\n")
        assert "old" not in text
        assert "| process, 2 | 4 | 100 | 109 | +9 % |" in text


def test_everything_that_fits_here_is_compared():
    sizes = scaling.layouts()

    assert {kind for kind, _, _ in sizes} == {"process", "inline"}
    assert all(slots >= workers for _, workers, slots in sizes)
    assert [slots for kind, _, slots in sizes if kind == "inline"] == [1, 2, 4, 8, 16]
