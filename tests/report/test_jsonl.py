"""metrics.jsonl holds every finished step once, whatever happened in between."""

import errno
import json

import pytest

from pi0.ript.report.jsonl import JsonlReporter, read_metrics


def write(path, steps, *, last_step=0):
    reporter = JsonlReporter(path, last_step=last_step)
    for step in steps:
        reporter.log(step, {"rollout/success_rate": step / 10})
    reporter.close()


def test_one_line_per_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, [1, 2])
    assert path.read_text().splitlines() == [
        '{"step": 1, "rollout/success_rate": 0.1}',
        '{"step": 2, "rollout/success_rate": 0.2}',
    ]


def test_line_is_readable_while_the_run_goes_on(tmp_path):
    reporter = JsonlReporter(tmp_path / "metrics.jsonl")
    reporter.log(1, {"a": 1})
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "a": 1}]
    reporter.close()


def test_words_are_kept_and_what_is_not_finite_becomes_null(tmp_path):
    reporter = JsonlReporter(tmp_path / "metrics.jsonl")
    reporter.log(1, {"ended_by": "enough groups", "loss": float("nan"), "kl": float("inf")})
    reporter.close()
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line == {"step": 1, "ended_by": "enough groups", "loss": None, "kl": None}


def test_resumed_run_drops_the_steps_it_repeats(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, [1, 2, 3, 4])
    write(path, [3], last_step=2)
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_torn_last_line_of_a_killed_run_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, [1, 2])
    with path.open("a") as file:
        file.write('{"step": 3, "roll')
    assert [line["step"] for line in read_metrics(path)] == [1, 2]
    write(path, [3], last_step=2)
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3]


def test_new_run_starts_empty(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, [1, 2])
    write(path, [1])
    assert [line["step"] for line in read_metrics(path)] == [1]


class FullDisk:
    """A file that takes five bytes more."""

    def __init__(self, file):
        self._file = file
        self.name = file.name
        self._room = 5

    def fileno(self):
        return self._file.fileno()

    def write(self, data):
        if not self._room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = self._file.write(data[: self._room])
        self._room -= taken
        return taken

    def close(self):
        self._file.close()


def test_full_disk_leaves_whole_lines_only(tmp_path):
    path = tmp_path / "metrics.jsonl"
    reporter = JsonlReporter(path)
    reporter.log(1, {"a": 1})
    reporter._lines._file = FullDisk(reporter._lines._file)
    with pytest.raises(OSError, match=r"No space left.*metrics\.jsonl"):
        reporter.log(2, {"a": 2})
    reporter.close()
    assert path.read_text() == '{"step": 1, "a": 1}\n'
