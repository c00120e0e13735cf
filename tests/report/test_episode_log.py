"""episodes.jsonl holds every rollout once, whatever happened in between."""

import hashlib
import json

from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.report.episode_log import EpisodeLog
from tests.report.episodes import make_episode


def records():
    return [
        EpisodeRecord.of_rollout(make_episode(outcome=outcome), is_accepted=True)
        for outcome in ("success", "failure")
    ]


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_line_has_the_initial_state_and_the_outcome(tmp_path):
    log = EpisodeLog(tmp_path / "episodes.jsonl")
    log.log(1, records()[:1])
    log.close()
    assert read(tmp_path / "episodes.jsonl") == [
        {
            "step": 1,
            "suite": "libero_goal",
            "task_id": 7,
            "task": "open it",
            "state_index": 33,
            "fixture_seed": 0,
            "group": 0,
            "rollout": 0,
            "outcome": "success",
            "num_steps": 6,
            "seed": 5,
            "is_accepted": True,
            # sha256 of 3 policy steps x 2 executed actions x 7 zeros of 4 bytes.
            "actions_hash": hashlib.sha256(bytes(168)).hexdigest()[:16],
            "error": "",
        }
    ]


def test_resumed_run_drops_the_episodes_it_repeats(tmp_path):
    path = tmp_path / "episodes.jsonl"
    log = EpisodeLog(path)
    for step in (1, 2, 3):
        log.log(step, records())
    log.close()
    log = EpisodeLog(path, last_step=2)
    log.log(3, records())
    log.close()
    assert [line["step"] for line in read(path)] == [1, 1, 2, 2, 3, 3]


def test_torn_step_of_a_killed_run_is_repeated_whole(tmp_path):
    path = tmp_path / "episodes.jsonl"
    log = EpisodeLog(path)
    log.log(1, records())
    log.log(2, records())
    log.close()
    path.write_bytes(path.read_bytes()[:-20])
    log = EpisodeLog(path, last_step=1)
    log.log(2, records())
    log.close()
    assert [line["outcome"] for line in read(path)] == ["success", "failure"] * 2
