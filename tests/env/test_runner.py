"""What settings make of a runner, without a simulator."""

import pytest

from pi0.records import Sampling
from pi0.ript.config.schema import EnvConfig, PolicyConfig, TrainConfig
from pi0.ript.env.pi0_libero_runner import LIBEROEnvRunner
from pi0.ript.env.pi0_libero_runner_ript_vla import PI0LiberoRunner
from tests.env.toys import ToyPolicy, ToyPool, toy_request


def runner(kind=PI0LiberoRunner, env=None, **arguments):
    config = TrainConfig(env=env or EnvConfig(), policy=PolicyConfig(batch_size=3))
    return kind(ToyPolicy(), "libero_goal", config=config, **arguments)


def test_auto_slots_are_a_number_that_suits_groups_and_come_with_a_reason():
    ready = runner(num_parallel_envs="auto", rollouts_per_env=8)

    slots = ready.num_parallel_envs
    assert slots % 8 == 0 or 8 % slots == 0
    assert f"{slots} simulator slot" in ready.sizing.line
    assert "cores" in ready.sizing.line


def test_the_serial_runner_has_one_slot_whatever_is_asked():
    ready = runner(LIBEROEnvRunner, num_parallel_envs="auto")

    assert (ready.num_parallel_envs, ready.sizing.num_workers) == (1, 1)


@pytest.mark.parametrize(
    ("tasks", "max_scenes", "expected"), [([7], 4, 1), ([7, 6], 4, 2), ([], 4, 4), ([], 2, 2)]
)
def test_no_worker_plans_for_more_scenes_than_there_are_tasks(tasks, max_scenes, expected):
    ready = runner(env=EnvConfig(max_scenes=max_scenes), task_names_to_use=tasks)

    assert ready.sizing.scenes_per_worker == expected


def test_all_slots_of_an_inline_pool_share_one_worker():
    assert runner(env=EnvConfig(backend="inline"), num_parallel_envs=4).sizing.num_workers == 1


def test_the_schedule_comes_from_the_configuration():
    ready = runner(env=EnvConfig(schedule="lockstep"), num_parallel_envs=3)
    waiting = iter([toy_request(seed, max_steps=4 * (seed + 1)) for seed in range(3)])

    list(ready.run(lambda: next(waiting, None), Sampling(num_steps=4), ToyPool(3)))

    assert ready.policy.batches == [3, 2, 1]  # one, two and three chunks of 4 steps
