"""episodes.jsonl: what is done is not done again, and other settings are refused."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pi0.ript.evaluation.log import LOG_NAME, EvaluationLog, differing, read_log
from tests.evaluation.records import make_record
from tests.evaluation.toy_evaluation import SETTINGS, toy_records, toy_requests

ROOT = Path(__file__).parents[2]


def _run_program(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.evaluation.toy_evaluation", folder, *options],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_new_log_lacks_every_episode_and_a_full_one_none(tmp_path: Path):
    requests = toy_requests()

    with EvaluationLog(tmp_path, SETTINGS) as log:
        assert log.missing(requests) == requests
        for record in toy_records(requests, num_slots=2):
            log.add(record)

    with EvaluationLog(tmp_path, SETTINGS) as log:
        assert log.missing(requests) == []


def test_an_evaluation_that_cannot_begin_leaves_nothing_behind(tmp_path: Path):
    (tmp_path / "outputs").mkdir()

    with (
        pytest.raises(ValueError, match="differs"),
        EvaluationLog(tmp_path / "outputs/eval/first", SETTINGS),
    ):
        raise ValueError("the engine differs from LIBERO's own environment")

    assert list(tmp_path.rglob("*")) == [tmp_path / "outputs"]


def test_killed_after_any_episode_and_run_again_gives_the_same_records(tmp_path: Path):
    undisturbed = toy_records(toy_requests(), num_slots=3)

    killed = _run_program(tmp_path, "--kill_after", "5")
    assert killed.returncode == -signal.SIGKILL
    assert len(read_log(tmp_path / LOG_NAME)[1]) == 5
    again = _run_program(tmp_path)

    assert again.returncode == 0, again.stderr
    assert again.stdout == "7 left\n"  # of 12
    _, records = read_log(tmp_path / LOG_NAME)
    assert sorted(records, key=lambda r: r.key) == sorted(undisturbed, key=lambda r: r.key)


def test_a_torn_last_line_is_dropped_and_its_episode_done_again(tmp_path: Path):
    requests = toy_requests()
    with EvaluationLog(tmp_path, SETTINGS) as log:
        for record in toy_records(requests, num_slots=1):
            log.add(record)
    path = tmp_path / LOG_NAME
    os.truncate(path, path.stat().st_size - 10)

    with EvaluationLog(tmp_path, SETTINGS) as log:
        assert len(log.missing(requests)) == 1
        log.add(make_record())

    assert [json.loads(line) for line in path.read_text().splitlines()][-1]["seed"] == 7030


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 43}, "seed is 42, not 43"),
        ({"card": {"protocol": "lerobot"}}, 'card.protocol is "openpi", not "lerobot"'),
        ({"device": "cuda"}, 'device is null, not "cuda"'),
        ({"fixtures": "fixed"}, 'fixtures is "per_episode", not "fixed"'),
    ],
)
def test_other_settings_are_refused_by_name_and_nothing_changes(tmp_path: Path, change, named):
    with EvaluationLog(tmp_path, SETTINGS) as log:
        log.add(toy_records(toy_requests()[:1], num_slots=1)[0])
    before = (tmp_path / LOG_NAME).read_bytes()

    with pytest.raises(ValueError, match="other settings") as caught:
        EvaluationLog(tmp_path, SETTINGS | change)

    assert named in str(caught.value)
    assert (tmp_path / LOG_NAME).read_bytes() == before


def test_a_crashed_episode_is_tried_again_and_its_later_line_wins(tmp_path: Path):
    request = toy_requests()[0]
    (record,) = toy_records([request], num_slots=1)
    crashed = make_record(
        task_id=record.task_id, state_index=record.state_index, seed=record.seed, outcome="crashed"
    )
    with EvaluationLog(tmp_path, SETTINGS) as log:
        log.add(crashed)
        assert log.missing([request]) == [request]
        log.add(record)

    assert read_log(tmp_path / LOG_NAME)[1] == [record]


def test_two_programs_never_write_one_log(tmp_path: Path):
    with (
        EvaluationLog(tmp_path, SETTINGS),
        pytest.raises(ValueError, match="another program is writing"),
    ):
        EvaluationLog(tmp_path, SETTINGS)

    EvaluationLog(tmp_path, SETTINGS).close()


@pytest.mark.parametrize("text", ["no json\n", '{"step": 1}\n', '{"settings": {}}\n{"a": 1}\n'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str):
    (tmp_path / LOG_NAME).write_text(text)

    with pytest.raises(ValueError, match="does not hold the episodes of an evaluation"):
        EvaluationLog(tmp_path, SETTINGS)


def test_settings_are_compared_as_json_values():
    assert differing({"tasks": [["a", 1]]}, json.loads('{"tasks": [["a", 1]]}')) == []
