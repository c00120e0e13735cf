"""The worked examples do what their docstrings promise."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from examples.custom_objective import MAX_WEIGHT, AdvantageWeighted
from examples.custom_policy import SteeringPolicy, run
from examples.custom_reward import TimedRunner, timed
from examples.custom_simulator import GymPool
from examples.toy_simulator import GOAL, REACHED, STEP, ToyPool, _observe, instruct, toy_request
from pi0.records import Sampling
from pi0.ript.config.schema import AlgoConfig
from pi0.ript.config.sections import OptimizerConfig
from pi0.ript.engine.single import SingleEngine
from pi0.ript.env.rollout.scheduler import Scheduler
from pi0.ript.env.rollout.stats import RolloutStats
from pi0.ript.learner.update import update
from pi0.ript.types import Episode, EpisodeRequest, InitialState
from tests.learner.samples import SAMPLING, draw_batch
from tests.policy_parts import small_policy

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("custom_*.py"))


class PointEnv:
    """The toy as a gymnasium-style environment."""

    def reset(self, *, options):
        self.point = options["state"].copy()
        return self.point, {}

    def step(self, action):
        self.point = self.point + STEP * action[:2]
        reached = bool(np.linalg.norm(self.point - GOAL) < REACHED)
        return self.point, float(reached), reached, False, {"is_success": reached}


def episodes_of(pool, noise_scale=1.0):
    requests = iter([toy_request(n % 8, seed=n) for n in range(16)])
    with pool:
        done = Scheduler(
            pool,
            SteeringPolicy(),
            lambda: next(requests, None),
            sampling=Sampling(num_steps=1, noise_scale=noise_scale),
            batch_size=4,
            max_attempts=1,
            max_restarts=0,
            stats=RolloutStats(),
            instruct=instruct,
        ).run()
        return sorted(
            (
                e.request.seed,
                e.task,
                e.outcome,
                e.num_steps,
                e.policy_steps[-1].chunk.actions.tobytes(),
            )
            for e in done
        )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_of_an_extension_is_short(path):
    assert len(path.read_text().splitlines()) < 80


def test_steering_without_noise_always_arrives():
    done = run(toy_request(n, seed=n) for n in range(8))
    assert {episode.outcome for episode in done} == {"success"}
    # The nearest start, at 45 degrees, is 0.21 m away along each axis. The first chunk covers that in its
    # four steps; after three, 0.05 m are left along each axis, which is 0.07 m and too far.
    assert min(episode.num_steps for episode in done) == 4


def test_number_of_slots_changes_no_episode():
    assert episodes_of(ToyPool(1)) == episodes_of(ToyPool(5))
    assert {outcome for _, _, outcome, _, _ in episodes_of(ToyPool(3))} == {"success", "failure"}


def test_gymnasium_style_simulator_gives_the_episodes_of_the_toy():
    assert episodes_of(GymPool(PointEnv, _observe, num_slots=3)) == episodes_of(ToyPool(3))


def finished(outcome, num_steps):
    state = InitialState(suite="toy", task_id=0, index=0, fixture_seed=0, state=np.zeros(2))
    return Episode(
        request=EpisodeRequest(initial_state=state, seed=0, max_steps=100),
        task="go",
        policy_steps=(),
        outcome=outcome,
        num_steps=num_steps,
    )


@pytest.mark.parametrize(
    ("outcome", "num_steps", "reward"),
    [("success", 0, 1.0), ("success", 50, 0.75), ("success", 100, 0.5), ("failure", 100, 0.0)],
)
def test_timed_reward_is_higher_for_faster_success(outcome, num_steps, reward):
    assert timed(finished(outcome, num_steps)).reward == reward


def test_runner_with_a_reward_of_its_own_yields_timed_episodes():
    runner = TimedRunner(SteeringPolicy(), "libero_goal", num_parallel_envs=1)
    # The runner takes the instruction from LIBERO, so the toy has the name of one of its suites.
    state = InitialState(
        suite="libero_goal", task_id=0, index=0, fixture_seed=0, state=np.array([1.0, 0.0])
    )
    requests = iter([EpisodeRequest(initial_state=state, seed=0, max_steps=30)])
    with ToyPool(1) as pool:
        (episode,) = runner.run(lambda: next(requests, None), Sampling(num_steps=1), pool)
    assert episode.outcome == "success"
    assert episode.reward == 1.0 - 0.5 * episode.num_steps / 30


def test_policy_example_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "examples.custom_policy"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "noise 0.0: 100% of 64 episodes reached the goal" in done.stdout


def test_advantage_weighted_cloning_is_cloning_where_all_advantages_are_zero():
    algo = AlgoConfig(objective="bc", num_epochs=1, num_minibatches=1, warmup_steps=0)
    losses = {}
    # exp(2 * 5) is cut to MAX_WEIGHT, so every sample counts ten times.
    for advantage, weight in ((0.0, 1.0), (5.0, MAX_WEIGHT)):
        policy = small_policy()
        batch = draw_batch(policy, 4)
        batch = replace(batch, advantages=np.full(4, advantage, np.float32))
        parameters = policy.trainable_parameters(expert_only=True)
        engine = SingleEngine(parameters, OptimizerConfig(), algo.lr, 0, 1.0)
        stats = update(
            policy,
            engine,
            batch,
            AdvantageWeighted(algo),
            algo,
            SAMPLING,
            0,
            has_frozen_prefix=True,
        )
        assert stats.num_optimizer_steps == 1
        losses[advantage] = stats.loss / weight
    assert losses[5.0] == pytest.approx(losses[0.0], rel=1e-5)
