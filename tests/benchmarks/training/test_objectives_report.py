"""Curves of success over training, side by side after equal training."""

import pytest

from benchmarks.parts.document import marks
from benchmarks.training import objectives_report
from benchmarks.training.objectives_report import Curve, merged, publish, table


def _curve(arm="flow_sde", seed=0, after=(True, True, False, True)):
    """A base of 1 in 4, then what came after 200 simulator steps and 4 minutes."""
    base = [True, False, False, False]
    return Curve(
        arm=arm, seed=seed, env_steps=[0, 200], minutes=[0.0, 4.0], outcomes=[base, list(after)]
    )


def test_success_between_two_evaluations_lies_on_a_straight_line():
    curve = _curve()

    assert curve.success == [0.25, 0.75]
    assert curve.at(100) == pytest.approx(0.5)
    assert curve.at(1000) == 0.75
    assert curve.minutes_at(50) == pytest.approx(1.0)


def test_runs_of_several_machines_make_one_comparison():
    known = [_curve(seed=1), _curve(arm="bc")]
    again = _curve(seed=1, after=[True] * 4)

    together = merged(known, [again, _curve(seed=0)])

    assert [(curve.arm, curve.seed) for curve in together] == [
        ("flow_sde", 0), ("flow_sde", 1), ("bc", 0),
    ]  # fmt: skip
    assert together[1] is again


def test_a_row_holds_all_seeds_of_an_arm():
    _, header, _, first, second, _ = table(
        [_curve(seed=0), _curve(seed=1, after=[True] * 4), _curve(arm="bc")], points=[100, 200]
    )

    assert header.split(" | ")[3:5] == [
        "after 100 steps, every seed",
        "after 200 steps, every seed",
    ]
    cells = first.strip("| ").split(" | ")
    assert cells[:2] == ["`flow_sde`", "0, 1"]
    assert cells[2].startswith("25 % [")
    # halfway from 25 % to 75 % and to 100 %, with the mean 56.25 %
    assert cells[3].startswith("56 % [")
    assert cells[3].endswith("]: 50, 62")
    # the mean of 75 % and 100 %
    assert cells[4].startswith("88 % [")
    assert cells[4].endswith("]: 75, 100")
    assert cells[5] == "2.0"
    assert second.startswith("| `bc` | 0 |")


def test_an_arm_that_stopped_earlier_has_no_figure_after_more_practice():
    row = table([_curve()], points=[200, 201])[3]

    assert row.strip("| ").split(" | ")[3].startswith("75 % [")
    assert row.split(" | ")[4].strip() == ""


def test_episodes_that_all_agree_leave_no_doubt():
    certain = Curve(
        arm="nft", seed=0, env_steps=[0, 10], minutes=[0, 1], outcomes=[[True] * 3, [True] * 3]
    )

    assert "100 % [100, 100]" in table([certain], points=[10])[3]


def test_the_page_names_the_command_and_shows_the_image(tmp_path, monkeypatch):
    begin, end = marks(objectives_report.SECTION)
    page = tmp_path / "results.md"
    page.write_text(f"before\n{begin}{end}\nafter\n")
    monkeypatch.setattr(objectives_report, "DOCUMENT", page)
    monkeypatch.setattr(objectives_report, "IMAGES", tmp_path)

    publish({"stove": ([_curve(), _curve(arm="bc")], [200])}, "python x.py --publish")

    assert "Measured by calls like `python x.py --publish`" in page.read_text()
    assert "**stove**" in page.read_text()
    assert (tmp_path / "objectives_stove.png").stat().st_size > 1000
