"""Stored actions through whole runs: of every rollout as ``rollouts.save`` says, once, and of held-out episodes."""

import hashlib
import json

import pytest

from pi0.ript.report.action_log import read_rollouts
from tests.programs import run_program
from tests.train.toy_run import toy_arguments

pytestmark = pytest.mark.slow

PROGRAM = "tests.train.toy_run:main"


def run(tmp_path, arguments):
    done = run_program(PROGRAM, arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def lines_of(run_dir):
    lines = [json.loads(line) for line in (run_dir / "episodes.jsonl").read_text().splitlines()]
    return {(line["step"], line["seed"]): line for line in lines if line["outcome"] != "crashed"}


def test_stored_actions_are_those_that_episodes_jsonl_has_the_hashes_of(tmp_path, toy_folder):
    run(tmp_path, toy_arguments(toy_folder, tmp_path / "out", rollouts__save="all"))
    (run_dir,) = (tmp_path / "out").iterdir()
    stored = {(r.step, r.seed): r for r in read_rollouts(run_dir)}
    lines = lines_of(run_dir)
    assert stored.keys() == lines.keys()
    for key, line in lines.items():
        rollout = stored[key]
        assert hash_of(rollout.actions) == line["actions_hash"]
        assert (len(rollout.actions), rollout.is_success) == (
            line["num_steps"],
            line["outcome"] == "success",
        )
        assert (rollout.state_index, rollout.fixture_seed, rollout.task) == (
            line["state_index"],
            line["fixture_seed"],
            line["task"],
        )


def test_by_default_nothing_is_stored_and_a_resumed_run_may_begin_to(tmp_path, toy_folder):
    run(tmp_path, toy_arguments(toy_folder, tmp_path / "out", training__num_train_steps=2))
    (run_dir,) = (tmp_path / "out").iterdir()
    with pytest.raises(FileNotFoundError):
        read_rollouts(run_dir)
    more = ["--resume", run_dir, "--training.num_train_steps=3", "--rollouts.save=successes"]
    run(tmp_path, more)
    wanted = {
        key
        for key, line in lines_of(run_dir).items()
        if key[0] == 3 and line["outcome"] == "success"
    }
    assert {(r.step, r.seed) for r in read_rollouts(run_dir)} >= wanted
    assert all(r.is_success and r.step == 3 for r in read_rollouts(run_dir))


def test_actions_of_the_first_and_of_the_newest_evaluation_are_kept(tmp_path, toy_folder):
    run(tmp_path, toy_arguments(toy_folder, tmp_path / "out", evaluation__every=1))
    (run_dir,) = (tmp_path / "out").iterdir()

    stored = read_rollouts(run_dir / "evaluations")

    assert sorted({each.step for each in stored}) == [0, 3]  # not those after steps 1 and 2
    for step in (0, 3):
        text = (run_dir / "evaluations" / f"step_{step}.json").read_text()
        ended = {
            each["seed"]: (each["outcome"] == "success", each["num_steps"])
            for each in json.loads(text)["episodes"]
        }
        found = {r.seed: (r.is_success, len(r.actions)) for r in stored if r.step == step}
        assert found == ended


def hash_of(actions):
    return hashlib.sha256(actions.tobytes()).hexdigest()[:16]
