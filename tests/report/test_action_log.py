"""Stored actions come back bit for bit, once each, of the episodes that were to be kept."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pi0.records import Chunk, Observation
from pi0.ript.report.action_log import ACTIONS_NAME, ActionLog, read_rollouts
from pi0.ript.types import Episode, EpisodeRequest, InitialState, PolicyStep
from tests.policy_parts import raises_one_line

NUM_EXECUTED = (4, 4, 2)  # of chunks of 4: the episode ends in the third


def episode(outcome="success", seed=5):
    state = InitialState(suite="libero_goal", task_id=7, index=3, fixture_seed=9, state=np.zeros(2))
    rng = np.random.default_rng(seed)
    steps = tuple(
        PolicyStep(
            observation=Observation(images=np.zeros((1, 2, 2, 3), np.uint8), proprio=np.zeros(9)),
            chunk=Chunk(
                actions=rng.uniform(-1, 1, (4, 7)).astype(np.float32),
                chain=np.zeros((2, 4, 7), np.float32),
                is_stochastic=True,
            ),
            num_executed=num_executed,
        )
        for num_executed in NUM_EXECUTED
    )
    return Episode(
        request=EpisodeRequest(initial_state=state, seed=seed, max_steps=10),
        task="turn on the stove",
        policy_steps=steps,
        outcome=outcome,
        num_steps=10,
    )


def write(folder, saved, *episodes, step=1, last_step=0):
    log = ActionLog(folder / ACTIONS_NAME, saved, 10, last_step=last_step)
    for each in episodes:
        log.append([log.entry(step, each)])
    log.close()


def test_executed_actions_come_back_bit_for_bit(tmp_path):
    write(tmp_path, "all", episode())
    (rollout,) = read_rollouts(tmp_path)
    executed = [s.chunk.actions[: s.num_executed] for s in episode().policy_steps]
    assert np.array_equal(rollout.actions, np.concatenate(executed))
    assert (rollout.suite, rollout.task_id, rollout.state_index) == ("libero_goal", 7, 3)
    assert (rollout.fixture_seed, rollout.seed, rollout.settling_steps) == (9, 5, 10)
    assert (rollout.step, rollout.is_success) == (1, True)


@pytest.mark.parametrize(("saved", "seeds"), [("successes", [1]), ("all", [1, 2])])
def test_what_is_not_wanted_and_what_crashed_is_left_out(tmp_path, saved, seeds):
    no_action = replace(episode("failure", seed=4), policy_steps=())
    several = episode(seed=1), episode("failure", seed=2), episode("crashed", seed=3), no_action
    write(tmp_path, saved, *several)
    assert [rollout.seed for rollout in read_rollouts(tmp_path)] == seeds


def test_without_saving_there_is_no_file(tmp_path):
    write(tmp_path, "none", episode())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError) as error:
        read_rollouts(tmp_path)
    assert raises_one_line(error.value, str(tmp_path), "--rollouts.save", "--save_rollouts")


def test_resumed_run_repeats_the_steps_after_its_checkpoint(tmp_path):
    write(tmp_path, "all", episode(seed=1), step=1)
    write(tmp_path, "all", episode(seed=2), step=2, last_step=1)
    write(tmp_path, "all", episode(seed=3), step=2, last_step=1)
    assert [(r.step, r.seed) for r in read_rollouts(tmp_path)] == [(1, 1), (2, 3)]


def test_files_of_several_ranks_are_read_and_an_episode_twice_in_one_counts_once(tmp_path):
    write(tmp_path, "all", episode(seed=1), episode(seed=1))
    (tmp_path / ACTIONS_NAME).rename(tmp_path / "rollouts_1.jsonl")
    write(tmp_path, "all", episode(seed=2))
    assert sorted(rollout.seed for rollout in read_rollouts(tmp_path)) == [1, 2]


@pytest.mark.parametrize(
    "change",
    [{"actions": "AAAA"}, {"actions": "!"}, {"actions": ""}, {"task_id": "7"}, {"seed": None}],
)
def test_damaged_line_is_named(tmp_path, change):
    write(tmp_path, "all", episode(seed=1), episode(seed=2))
    first, second = (tmp_path / ACTIONS_NAME).read_text().splitlines()
    damaged = json.dumps(json.loads(second) | change)
    (tmp_path / ACTIONS_NAME).write_text(f"{first}\n{damaged}\n")
    with pytest.raises(ValueError, match="line 2 was not written by a run"):
        read_rollouts(tmp_path)
