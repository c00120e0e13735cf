"""Both runners give the same episodes, however many simulators run them."""

import os
import signal

import numpy as np
import pytest

from pi0.ript.config.schema import EnvConfig, TaskConfig, TrainConfig
from pi0.ript.env.initial_states import initial_states
from pi0.ript.env.pi0_libero_runner import LIBEROEnvRunner
from pi0.ript.env.pi0_libero_runner_ript_vla import PI0LiberoRunner
from tests.env.toys import ToyPolicy

NUM_EPISODES = 5
CONFIG = TrainConfig(task=TaskConfig(benchmark_name="libero_goal", max_episode_length=10))
INLINE = TrainConfig(task=CONFIG.task, env=EnvConfig(backend="inline"))
RUNNERS = [LIBEROEnvRunner, PI0LiberoRunner]


def fingerprint(episodes):
    return [
        (
            episode["outcome"],
            episode["init_hash"],
            episode["actions"].tobytes(),
            b"".join(step.observation.images.tobytes() for step in episode["decisions"]),
        )
        for episode in episodes
    ]


def run(runner, **kwargs):
    return [episode for _, _, episode in runner.run_policy_in_env("turn_on_the_stove", **kwargs)]


@pytest.fixture(scope="module")
def serial_runner():
    with LIBEROEnvRunner(ToyPolicy(), rollouts_per_env=NUM_EPISODES, config=CONFIG) as runner:
        yield runner


@pytest.fixture(scope="module")
def serial(serial_runner):
    return fingerprint(run(serial_runner))


@pytest.mark.libero
@pytest.mark.parametrize("num_slots", [2, 5])
def test_parallel_episodes_equal_serial_ones(serial, num_slots):
    # Two workers are the real thing; two slots share a process to keep the test short.
    config = CONFIG if num_slots == 5 else INLINE
    with PI0LiberoRunner(
        ToyPolicy(), None, NUM_EPISODES, num_parallel_envs=num_slots, config=config
    ) as runner:
        assert fingerprint(run(runner)) == serial


@pytest.mark.libero
def test_a_killed_worker_changes_no_episode(serial):
    class Killer(ToyPolicy):
        """Kills a simulator process in the middle of its episodes, once."""

        pids = ()

        def act(self, *arguments):
            if len(self.batches) == 2:
                os.kill(self.pids[0], signal.SIGKILL)
            return super().act(*arguments)

    policy = Killer()
    with PI0LiberoRunner(policy, None, NUM_EPISODES, 2, config=CONFIG) as runner:
        pool = runner.create_env("turn_on_the_stove")
        policy.pids = pool.pids
        episodes = run(runner, created_env=pool)
        assert runner.stats.num_retries >= 1
        pool.close()

    assert fingerprint(episodes) == serial


@pytest.mark.libero
def test_results_stream_in_rollout_order_and_the_callers_env_stays_open(serial_runner):
    states = initial_states("libero_goal", 7)[40:45]
    pool = serial_runner.create_env(7)

    results = serial_runner.run_policy_in_env(7, all_init_states=states, created_env=pool)
    success, reward, first = next(results)
    rest = list(results)

    assert 1 + len(rest) == NUM_EPISODES
    assert (success, reward) == (False, 0.0)
    for state, episode in zip(states, [first, *(e for _, _, e in rest)], strict=True):
        np.testing.assert_array_equal(episode["init_state"], state)
        assert episode["task"] == "turn on the stove"
    pool.restore(0, first["episode"].request.initial_state)  # still usable
    assert pool.wait()[0].error == ""
    pool.close()


@pytest.mark.libero
def test_every_call_draws_its_own_noise(serial, serial_runner):
    again = fingerprint(run(serial_runner))

    assert [a[1] for a in again] == [b[1] for b in serial]  # the same initial states
    assert all(a[2] != b[2] for a, b in zip(again, serial, strict=True))


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_runner_needs_a_policy(runner):
    with pytest.raises(ValueError, match="policy is required, got None"):
        runner()


@pytest.mark.parametrize("runner", RUNNERS)
def test_arguments_are_checked_before_any_simulator_starts(runner):
    with pytest.raises(ValueError, match="rollouts_per_env must be >= 1, got 0"):
        runner(ToyPolicy(), rollouts_per_env=0)
    with pytest.raises(ValueError, match=r"rank must be in 0\.\.1, got 2"):
        runner(ToyPolicy(), rank=2, world_size=2)
    with pytest.raises(ValueError, match="did you mean 'turn_on_the_stove'"):
        runner(ToyPolicy(), "libero_goal", task_names_to_use=["turn_on_stove"])
    ready = runner(ToyPolicy(), "libero_goal", rollouts_per_env=3)
    with pytest.raises(ValueError, match="has tasks"):
        ready.run_policy_in_env(99)
    with pytest.raises(ValueError, match="rollouts_per_env=3 needs as many initial states, got 2"):
        ready.run_policy_in_env(7, all_init_states=np.zeros((2, 79)))
    with pytest.raises(ValueError, match="have length 79, got 8"):
        ready.run_policy_in_env(7, all_init_states=np.zeros((3, 8)))


@pytest.mark.parametrize("runner", RUNNERS)
def test_both_runners_take_the_same_arguments(runner):
    ready = runner(
        policy=ToyPolicy(),
        benchmark_name="libero_10",
        rollouts_per_env=2,
        num_parallel_envs=3,
        max_episode_length=None,
        task_names_to_use=[1],
        config=None,
        rank=0,
        world_size=1,
        norm_stats_path=None,
    )

    assert (ready.tasks, len(ready.task_names)) == ((("libero_10", 1),), 1)


@pytest.mark.libero
def test_sampling_comes_from_the_configuration(serial_runner):
    class Recorder(ToyPolicy):
        def act(self, observations, tasks, seeds, sampling):
            self.sampling = sampling
            return super().act(observations, tasks, seeds, sampling)

    serial_runner.policy = Recorder()
    run(serial_runner)

    assert serial_runner.policy.sampling == CONFIG.algo.sampling(1, CONFIG.policy.denoise_steps)
