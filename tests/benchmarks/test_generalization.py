"""The table of base and trained policy: its rows, its section of the document."""

import pytest

from benchmarks import generalization
from benchmarks.document import marks
from benchmarks.generalization import SECTION, TASKS, VARIANTS, policy_folder, publish, table


def _row(name):
    rates = {"n": 50, "rate": 0.5, "low": 0.366, "high": 0.634}
    change = {
        "difference": 0.1, "low": -0.02, "high": 0.2, "num_gained": 8, "num_lost": 3, "p_value": 0.227,
    }  # fmt: skip
    return {"name": name, "other": rates, "this": rates | {"rate": 0.6}, "change": change}


@pytest.fixture
def results():
    rows = [_row(f"{suite}{kind}/{n} do\u2019s") for kind in VARIANTS for suite, n in TASKS]
    settings = {"seed": 42, "denoise_steps": 4, "versions": {"mujoco": "3", "torch": "2"}}
    return {"settings": settings, "comparison": {"rows": [*rows, _row("all")]}}


def test_variants_of_a_task_stand_together(results):
    _, header, _, *rows, _ = table(results)

    assert len(rows) == 20
    assert [row.split("`")[1] for row in rows[:3]] == [
        "libero_goal/7", "libero_goal_lan/7", "libero_goal_object/7",
    ]  # fmt: skip
    assert rows[0] == (
        "| `libero_goal/7` | do's | 50 % [37, 63] | 60 % [37, 63] | +10 [-2, +20] | 8 / 3 | 0.23 | 50 |"
    )
    assert header.count("|") == rows[0].count("|")


def test_publishing_writes_the_table_and_its_command_between_the_marks(
    results, tmp_path, monkeypatch
):
    begin, end = marks(SECTION)
    document = tmp_path / "results.md"
    document.write_text(f"before\n{begin}old\n{end}\nafter\n")
    monkeypatch.setattr(generalization, "DOCUMENT", document)

    publish(results, "python x.py")

    text = document.read_text()
    assert text.startswith(f"before\n{begin}\n\nMeasured by `python x.py`")
    assert text.endswith(f"| 50 |\n\n{end}\nafter\n")


def test_a_run_directory_means_its_newest_policy(tmp_path):
    policy = tmp_path / "checkpoints/last/pretrained_model"
    policy.mkdir(parents=True)

    assert policy_folder(str(tmp_path)) == str(policy)
    assert policy_folder("builtin") == "builtin"
