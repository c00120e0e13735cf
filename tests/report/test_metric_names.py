"""Metrics that were renamed are read from older files under their new names."""

import json
from pathlib import Path

from pi0.ript.report.jsonl import RENAMED_METRICS, JsonlReporter, read_metrics
from pi0.ript.report.page.figures import RunMetrics
from tools import bit_equality

DOCS = Path(__file__).parents[2] / "docs" / "report.md"


def write_lines(path: Path, *lines: dict) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_every_renamed_metric_of_an_older_file_is_read_under_its_new_name(tmp_path):
    old = {name: float(n) for n, name in enumerate(RENAMED_METRICS)}
    write_lines(tmp_path / "metrics.jsonl", {"step": 1, **old, "update/kl": 0.5})

    (line,) = read_metrics(tmp_path / "metrics.jsonl")

    new = {name: float(n) for n, name in enumerate(RENAMED_METRICS.values())}
    assert line == {"step": 1, **new, "update/kl": 0.5}


def test_page_of_an_older_run_that_was_resumed_shows_one_series(tmp_path):
    write_lines(
        tmp_path / "metrics.jsonl",
        {"step": 1, "time/practice_s": 4.0},
        {"step": 2, "time/practice_s": 5.0},
        {"step": 3, "time/practice_s": 9.0},  # dropped: the checkpoint is that of step 2
    )
    resumed = JsonlReporter(tmp_path / "metrics.jsonl", last_step=2)
    resumed.log(3, {"time/rollout_s": 6.0})
    resumed.close()

    columns = RunMetrics(tmp_path).columns()

    assert columns["time/rollout_s"] == [4.0, 5.0, 6.0]
    assert "time/practice_s" not in columns


def test_no_new_name_is_an_old_one():
    assert not RENAMED_METRICS.keys() & set(RENAMED_METRICS.values())


def test_the_guide_lists_every_renamed_metric():
    for old, new in RENAMED_METRICS.items():
        assert f"| `{old}` | `{new}` |" in DOCS.read_text()


def test_bit_equality_compares_metrics_under_the_same_names():
    # The tool imports nothing of the package, which it runs in two versions.
    assert bit_equality.RENAMED == RENAMED_METRICS
