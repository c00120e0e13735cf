"""Both runners on real LIBERO with the embedded policy: one model, many simulators, the same episodes.

python test_ript_vla_integration.py
"""

import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from pi0.checkpoint import load_policy
from pi0.ript.config.load import read_config
from pi0.ript.env.pi0_libero_runner import LIBEROEnvRunner
from pi0.ript.env.pi0_libero_runner_ript_vla import PI0LiberoRunner
from tests.verification import run_checks

pytestmark = [pytest.mark.libero, pytest.mark.slow]

ROOT = Path(__file__).parent
CONFIG = read_config(ROOT / "pi0/ript/config/debug_train_ript_vla.yaml")
TASK = "turn_on_the_stove"
NUM_EPISODES = 4
OLD_KEYS = {
    "observations", "actions", "rewards", "dones", "infos", "task", "task_id", "init_state",
    "init_hash", "success", "total_reward",
}  # fmt: skip


class CountingPolicy:
    """The embedded policy; notes how many observations each call had."""

    def __init__(self):
        self.policy = load_policy("builtin", batch_size=CONFIG.policy.batch_size)
        self.spec = self.policy.spec
        self.calls = []

    def act(self, observations, tasks, seeds, sampling):
        self.calls.append(len(observations))
        return self.policy.act(observations, tasks, seeds, sampling)


def new_runner(kind, policy, slots=1):
    return kind(
        policy=policy,
        benchmark_name="libero_goal",
        rollouts_per_env=NUM_EPISODES,
        num_parallel_envs=slots,
        max_episode_length=60,
        task_names_to_use=[TASK],
        config=CONFIG,
    )


@cache
def serial():
    with new_runner(LIBEROEnvRunner, CountingPolicy()) as runner:
        return list(runner.run_policy_in_env(TASK))


@cache
def parallel():
    policy = CountingPolicy()
    with new_runner(PI0LiberoRunner, policy, slots=4) as runner:
        pool = runner.create_env(TASK)
        results = list(runner.run_policy_in_env(TASK, created_env=pool))
        libraries = [Path(f"/proc/{pid}/maps").read_text() for pid in pool.pids]
        pool.close()
    return results, policy.calls, libraries


def test_exactly_as_many_episodes_as_requested():
    """Both runners give exactly rollouts_per_env results (success, total_reward, episode)."""
    for results in (serial(), parallel()[0]):
        assert len(results) == NUM_EPISODES
        for success, total_reward, episode in results:
            assert total_reward == float(success) == episode["total_reward"]


def test_parallel_episodes_equal_serial_ones():
    """Serial and parallel runner give the same actions, images and outcomes, bit for bit."""
    for (_, _, one), (_, _, other) in zip(serial(), parallel()[0], strict=True):
        assert one["outcome"] == other["outcome"]
        assert one["init_hash"] == other["init_hash"]
        np.testing.assert_array_equal(one["actions"], other["actions"])
        for step, also_step in zip(one["decisions"], other["decisions"], strict=True):
            np.testing.assert_array_equal(step.observation.images, also_step.observation.images)


def test_episodes_have_the_documented_keys():
    """An episode is a dict with one entry per control step under the documented keys."""
    for _, _, episode in parallel()[0]:
        assert set(episode) >= OLD_KEYS
        steps = len(episode["actions"])
        assert steps > 0
        for key in ("observations", "rewards", "dones", "infos"):
            assert len(episode[key]) == steps
        assert episode["task"] == "turn on the stove"


def test_one_policy_acts_on_batches_of_observations():
    """One loaded policy acts for several simulators in one call."""
    calls = parallel()[1]
    assert max(calls) > 1
    assert sum(calls) == sum(len(episode["decisions"]) for _, _, episode in parallel()[0])


def test_simulators_are_processes_without_torch():
    """Simulators run in processes of their own, which never load torch."""
    libraries = parallel()[2]
    assert libraries
    for maps in libraries:
        assert "libtorch" not in maps
        assert "mujoco" in maps


if __name__ == "__main__":
    sys.exit(run_checks(globals()))
