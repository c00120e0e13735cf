"""Every objective on a small pi0, through the same update."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pi0.policy import Pi0Policy
from pi0.records import Sampling
from pi0.ript.build_learner import build_engine, build_objective
from pi0.ript.config.schema import AlgoConfig, TrainConfig
from pi0.ript.config.sections import NoiseConfig
from pi0.ript.diagnose.exploration import NoiseGain, StepGain, measure_noise_gain
from pi0.ript.learner.stats import UpdateStats
from pi0.ript.learner.update import update
from pi0.ript.types import Batch
from tests.learner.samples import SAMPLING, draw_batch, weights_of
from tests.learner.updates import record
from tests.policy_parts import TASKS, make_observations, small_policy

ALGO = AlgoConfig(num_epochs=2, num_minibatches=2, micro_batch_size=3, lr=1e-4, warmup_steps=0)
ONE = replace(SAMPLING, scored_steps="one")
OBJECTIVES = ["flow_sde", "nft", "cfg", "bc"]


def train(
    policy: Pi0Policy, batch: Batch, algo: AlgoConfig, sampling: Sampling = SAMPLING
) -> UpdateStats:
    engine = build_engine(TrainConfig(algo=algo), policy)
    objective = build_objective(algo)
    return update(policy, engine, batch, objective, algo, sampling, 3, has_frozen_prefix=True)


def changed(before: dict[str, Tensor], policy: Pi0Policy) -> set[str]:
    after = weights_of(policy)
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("objective", OBJECTIVES)
class TestEveryObjective:
    def test_it_changes_the_expert_and_nothing_that_is_frozen(self, objective: str):
        policy = small_policy()
        before = weights_of(policy)

        stats = train(policy, draw_batch(policy, 7), replace(ALGO, objective=objective))

        assert stats.num_optimizer_steps == 4
        assert np.isfinite([stats.loss, stats.grad_norm]).all()
        assert changed(before, policy)
        assert not any("model.vlm." in name for name in changed(before, policy))

    def test_same_inputs_give_the_same_bits(self, objective: str):
        results = []
        for _ in range(2):
            policy = small_policy()
            stats = train(policy, draw_batch(policy, 5), replace(ALGO, objective=objective))
            results.append((stats, weights_of(policy)))

        assert results[0][0] == results[1][0]
        assert all(torch.equal(results[0][1][k], results[1][1][k]) for k in results[0][1])

    def test_a_chunk_that_was_not_drawn_by_the_policy_is_refused(self, objective: str):
        policy = small_policy()
        batch = draw_batch(small_policy(seed=1), 7)

        with pytest.raises(FloatingPointError, match="disagree"):
            train(policy, batch, replace(ALGO, objective=objective))


def test_by_advantage_a_success_counts_as_much_as_it_beat_its_siblings():
    # (sum of w A grad) / (sum of w): as if its weight were w A, but for the sum that is divided by
    policy = small_policy()
    algo = replace(ALGO, objective="bc", num_epochs=1, num_minibatches=1)
    batch = replace(
        draw_batch(policy, 4),
        advantages=np.array([1.0, 0.25, -0.5, 0.5], np.float32),
        weights=np.full(4, 0.25, np.float32),
        is_success=np.array([True, True, False, True]),
    )
    weighed = replace(batch, weights=batch.weights * batch.advantages.clip(min=0))

    _, [found] = record(policy, batch, replace(algo, success_weight="advantage"))
    _, [expected] = record(policy, weighed, algo)

    assert float((found * 3 - expected * 1.75).norm() / (found * 3).norm()) < 1e-5


def test_cloning_learns_from_successes_only():
    policy = small_policy()
    is_success = np.array([True, False, True, True, False, False])
    batch = replace(draw_batch(policy, 6), is_success=is_success)
    poisoned = batch.chains.copy()
    poisoned[~is_success] = np.nan

    stats = train(policy, replace(batch, chains=poisoned), replace(ALGO, objective="bc"))

    assert np.isfinite(stats.loss)
    assert stats.num_optimizer_steps == 4


def test_a_batch_without_success_is_nothing_to_clone():
    policy = small_policy()
    batch = replace(draw_batch(policy, 3), is_success=np.zeros(3, bool))

    assert train(policy, batch, replace(ALGO, objective="bc")) is None


def test_failures_train_the_unconditional_branch_only():
    policy = small_policy()
    batch = draw_batch(policy, 4)
    failures = replace(batch, advantages=np.full(4, -1.0, np.float32))

    train(policy, failures, replace(ALGO, objective="cfg"))

    assert policy.network.unconditional is not None
    assert float(policy.network.unconditional.detach().abs().max()) > 0


class TestOneScoredStep:
    def test_the_noisy_step_is_drawn_per_policy_step_from_its_seed(self):
        policy = small_policy()
        observations, tasks = make_observations(12), [TASKS[sample % 4] for sample in range(12)]

        chunks = policy.act(observations, tasks, range(12), ONE)
        again = policy.act(observations[3:4], tasks[3:4], [3], ONE)

        steps = [chunk.noisy_step for chunk in chunks]
        assert {0, 1, 2, 3} == set(steps)
        assert again[0].noisy_step == steps[3]

    def test_ratios_are_one_and_stored_chains_pass_the_audit(self):
        # Transitions of the other steps must be Euler steps: the audit compares them entry by entry.
        policy = small_policy()
        algo = replace(ALGO, scored_steps="one")

        stats = train(policy, draw_batch(policy, 8, sampling=ONE), algo, ONE)

        assert stats.log_ratio_max == 0.0
        assert stats.off_mask_error < 1e-5
        assert stats.num_optimizer_steps == 4
        assert stats.kl > 0

    def test_scoring_all_steps_of_such_chains_is_refused(self):
        policy = small_policy()
        batch = draw_batch(policy, 8, sampling=ONE)
        all_scored = replace(batch, is_scored=np.ones_like(batch.is_scored))

        with pytest.raises(FloatingPointError, match="disagree"):
            train(policy, all_scored, ALGO)


class TestNoiseGain:
    def test_noise_of_the_last_step_reaches_the_action_whole(self):
        # Nothing follows the last step: its noise, 0.5 * 0.25 / sqrt(0.75) = 0.144, is the action's.
        found = measure_noise_gain(
            small_policy(), make_observations(4), TASKS, SAMPLING, 64, seed=0
        )

        assert found.steps[-1].injected == pytest.approx(0.144338, rel=1e-4)
        # 4 observations x 28 entries x 63 degrees of freedom: one percent is several standard errors.
        assert found.steps[-1].gain == pytest.approx(1.0, abs=0.03)
        assert [entry.step for entry in found.steps] == [0, 1, 2, 3]

    @pytest.mark.parametrize("probed", [0.1, 0.5])
    def test_the_recommendation_leaves_published_exploration_in_the_action(self, probed: float):
        policy, sampling = small_policy(), Sampling(num_steps=4, noise_scale=probed)
        found = measure_noise_gain(policy, make_observations(2), TASKS[:2], sampling, 32, seed=0)
        noise = NoiseConfig(final_std=found.recommended_final_std)

        followed = replace(sampling, noise_scale=noise.scale_at(1, 4))
        after = measure_noise_gain(policy, make_observations(2), TASKS[:2], followed, 32, seed=1)

        assert 0.08 <= after.all_steps <= 0.16

    def test_exploration_within_the_published_range_is_left_as_it_is(self):
        last = StepGain(step=0, injected=0.1, surviving=0.1, gripper_range=0.0)
        found = NoiseGain(noise_scale=0.4, steps=(last,), all_steps=0.15, initial_noise=0.3)

        assert found.recommended_final_std == 0.1


@pytest.mark.gpu
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_one_update_on_a_gpu(objective: str):
    policy = small_policy()
    policy.device = torch.device("cuda")
    policy.network.to(policy.device)
    before = weights_of(policy)

    stats = train(policy, draw_batch(policy, 7), replace(ALGO, objective=objective))

    assert np.isfinite([stats.loss, stats.grad_norm]).all()
    assert all(p.dtype == torch.float32 for p in policy.network.expert_parameters())
    assert changed(before, policy)
    assert not any("model.vlm." in name for name in changed(before, policy))
    if objective == "flow_sde":
        assert stats.kl > 0
