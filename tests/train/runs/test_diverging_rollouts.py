"""A collection in which physics diverge, on the real simulator."""

from dataclasses import replace

import numpy as np
import pytest

from pi0.records import Sampling
from pi0.ript.config.schema import AlgoConfig, EnvConfig, TaskConfig, TrainConfig
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.pi0_libero_runner_ript_vla import PI0LiberoRunner
from pi0.ript.train.dynamic_sampling import DynamicSampling
from pi0.ript.types import InitialState
from tests.env.toys import ToyPolicy
from tests.train.dealt_states import DealtStates

pytestmark = pytest.mark.libero

K, NUM_DIVERGING = 5, 10
# The plate flies at 100 km/s and spins as fast; without settling the first actions meet that.
SPEED = 1e5


def state_of(number: int) -> InitialState:
    """Ten states whose physics diverge, then any number of sound ones."""
    sound = make_initial_state("libero_goal", 7, min(number, 20), fixture_seed=0)
    if number >= NUM_DIVERGING:
        return sound
    state = sound.state.copy()
    state[-10:-4] = SPEED  # the plate's six velocities stand before those of four joints
    return replace(sound, state=state)


def test_fifty_diverging_episodes_are_fifty_records_and_the_run_goes_on():
    algo = AlgoConfig(
        demo_batch_size=1,
        rloo_batch_size=K,
        max_sampling_attempts=11,
        enable_dynamic_sampling=False,
    )
    config = TrainConfig(
        task=TaskConfig(benchmark_name="libero_goal", max_episode_length=8, num_steps_wait=0),
        env=EnvConfig(num_workers=2, max_restarts=0),
    )
    sampling = DynamicSampling(DealtStates(state_of), lambda _: 8, algo, 0, "rollout", 1)
    with PI0LiberoRunner(ToyPolicy(), num_parallel_envs=4, config=config) as runner:
        pool = runner.create_env(7)
        before = pool.pids
        for episode in runner.run(sampling.next_request, Sampling(num_steps=4), pool):
            sampling.add(episode)
        rollouts, stats = sampling.result(), runner.stats

        assert pool.pids == before
        pool.close()

    crashed = [record for record in rollouts.records if record.outcome == "crashed"]
    assert len(crashed) == stats.num_diverged == K * NUM_DIVERGING
    assert (stats.num_restarts, stats.num_retries) == (0, 0)
    for record in crashed:
        line = record.to_line()
        assert "diverged at action [" in line["error"]
        assert line["num_steps"] >= 1
    # The rollouts of a state meet other noise, hence other actions.
    assert len({record.actions_hash for record in crashed}) == len(crashed)
    assert (rollouts.ended_by, rollouts.num_accepted) == ("enough groups", 1)
    assert (rollouts.num_crashed, rollouts.num_episodes) == (NUM_DIVERGING, K)
    assert np.isfinite(rollouts.success_rate)
