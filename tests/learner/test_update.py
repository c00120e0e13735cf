from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pi0.policy import Pi0Policy
from pi0.ript.algo.flow_sde import FlowSde
from pi0.ript.algo.objective import Targets
from pi0.ript.learner.prefixes import Room
from pi0.ript.learner.scorer import Scorer
from pi0.ript.types import Batch
from tests.learner.samples import SAMPLING, are_equal, draw_batch, weights_of
from tests.learner.updates import ALGO, NUM_SAMPLES, record, train
from tests.policy_parts import small_policy


class TestUnchangedPolicy:
    @pytest.mark.parametrize("expert_only", [True, False])
    @pytest.mark.parametrize("micro_batch_size", [1, 3, 8])
    def test_first_ratios_are_exactly_one(self, micro_batch_size: int, expert_only: bool):
        policy = small_policy()
        algo = replace(ALGO, micro_batch_size=micro_batch_size, num_minibatches=2)

        stats, _ = record(policy, draw_batch(policy, NUM_SAMPLES), algo, expert_only=expert_only)

        assert stats.log_ratio_max == 0.0
        assert stats.clip_fraction == 0.0
        assert stats.kl == 0.0

    def test_loss_is_minus_the_weighted_advantage(self):
        # At ratio 1 every transition's loss is -A, whatever the clip.
        policy = small_policy()
        batch = draw_batch(policy, NUM_SAMPLES)

        stats, _ = record(policy, batch, ALGO)

        assert stats.loss == pytest.approx(-float(batch.weights @ batch.advantages), abs=1e-6)

    def test_gradient_is_that_of_the_weighted_log_likelihood(self):
        # d loss / d theta = -sum_b w_b A_b mean_k d log p(x_{k+1} | x_k), computed here directly.
        policy = small_policy()
        batch = draw_batch(policy, 4)
        parameters = policy.trainable_parameters(expert_only=True)
        inputs = policy.encode(batch.observations, batch.tasks)
        chains = torch.from_numpy(batch.chains)
        means = policy.transition_means(policy.prefix(inputs), inputs, chains, SAMPLING)
        assert means.shape == (4, 4, 4, 7)  # samples, denoise steps, executed actions, real dims
        std = policy.scored_stds(SAMPLING)[:, None, None].expand(4, 4, 7)
        density = torch.distributions.Normal(means, std).log_prob(chains[:, 1:, :4, :7])
        samples = torch.from_numpy(batch.weights * batch.advantages)
        objective = -(samples * density.sum(dim=(2, 3)).mean(dim=1)).sum()
        gradients = torch.autograd.grad(objective, parameters, allow_unused=True)
        expected = torch.cat([g.flatten() for g in gradients if g is not None])

        _, found = record(policy, batch, ALGO)

        torch.testing.assert_close(
            found[0], expected, rtol=1e-4, atol=1e-5 * float(expected.norm())
        )


class TestMicroBatches:
    @pytest.mark.parametrize("micro_batch_size", [1, 3])
    def test_their_size_changes_neither_loss_nor_gradient(self, micro_batch_size: int):
        policy = small_policy()
        batch = draw_batch(policy, NUM_SAMPLES)

        whole, [expected] = record(policy, batch, ALGO)
        parts, [found] = record(policy, batch, replace(ALGO, micro_batch_size=micro_batch_size))

        assert parts.loss == pytest.approx(whole.loss, abs=1e-6)
        # float32 rounds to 1e-7; the narrowest transition multiplies that by 1 / std = 7.
        assert float((found - expected).norm() / expected.norm()) < 5e-6

    @pytest.mark.parametrize("room", [Room(device=0), Room(device=20_000, host=10_000)])
    def test_a_prefix_that_is_not_kept_gives_the_same_gradient(self, room: Room):
        policy = small_policy()
        batch = draw_batch(policy, NUM_SAMPLES)
        algo = replace(ALGO, micro_batch_size=3)

        _, [kept] = record(policy, batch, algo)
        stats, [computed] = record(policy, batch, algo, room=room)

        assert stats.log_ratio_max == 0.0
        torch.testing.assert_close(computed, kept, rtol=1e-4, atol=1e-5 * float(kept.norm()))

    def test_every_minibatch_has_full_scale(self):
        # The gradient of the whole batch is the mean of the minibatches' gradients, weighted by the
        # share of the loss that each minibatch holds.
        policy = small_policy()
        batch = replace(draw_batch(policy, 6), weights=np.full(6, 1 / 6, np.float32))

        _, [whole] = record(policy, batch, ALGO)
        stats, halves = record(policy, batch, replace(ALGO, num_minibatches=2))

        assert stats.num_optimizer_steps == 2
        mean = (halves[0] + halves[1]) / 2
        torch.testing.assert_close(mean, whole, rtol=1e-4, atol=1e-5 * float(whole.norm()))

    def test_more_minibatches_than_samples_are_one_sample_each(self):
        policy = small_policy()
        stats, gradients = record(policy, draw_batch(policy, 2), replace(ALGO, num_minibatches=5))

        assert stats.num_optimizer_steps == len(gradients) == 2


class TestSamplesWithoutSignal:
    def test_samples_of_zero_advantage_or_weight_are_never_used(self):
        policy = small_policy()
        batch = draw_batch(policy, 5)
        poisoned = batch.chains.copy()
        poisoned[[1, 3]] = np.nan
        advantages, weights = batch.advantages.copy(), batch.weights.copy()
        advantages[1], weights[3] = 0.0, 0.0
        mixed = replace(batch, chains=poisoned, advantages=advantages, weights=weights)
        keep = [0, 2, 4]
        clean = Batch(
            observations=tuple(batch.observations[sample] for sample in keep),
            tasks=tuple(batch.tasks[sample] for sample in keep),
            chains=batch.chains[keep],
            advantages=batch.advantages[keep],
            weights=batch.weights[keep],
            is_success=batch.is_success[keep],
            is_scored=batch.is_scored[keep],
            num_executed=batch.num_executed[keep],
            groups=batch.groups[keep],
            seeds=batch.seeds[keep],
            elapsed=batch.elapsed[keep],
        )

        stats, [found] = record(policy, mixed, ALGO)
        expected_stats, [expected] = record(policy, clean, ALGO)

        assert stats == expected_stats
        assert torch.equal(found, expected)

    def test_a_batch_of_uniform_groups_changes_nothing(self):
        policy = small_policy()
        before = weights_of(policy)
        batch = draw_batch(policy, 3)

        stats = train(policy, replace(batch, advantages=np.zeros(3, np.float32)), ALGO)

        assert stats is None
        assert are_equal(before, weights_of(policy))

    def test_what_was_not_scored_does_not_matter(self):
        # The end of the chain beyond the executed 4 x 7 entries was drawn without noise.
        policy = small_policy()
        batch = draw_batch(policy, 4)
        disturbed = batch.chains.copy()
        disturbed[:, -1, 4:] += 1.0
        disturbed[:, -1, :, 7:] -= 1.0

        expected = loss_and_gradient(policy, batch)
        found = loss_and_gradient(policy, replace(batch, chains=disturbed))

        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def loss_and_gradient(policy: Pi0Policy, batch: Batch) -> list[Tensor]:
    """Return the objective's losses and their gradient, without the audit of an update."""
    parameters = policy.trainable_parameters(expert_only=True)
    samples = np.arange(len(batch))
    scorer = Scorer(policy, batch, samples, SAMPLING, is_frozen=True)
    objective = FlowSde(ALGO)
    weights = torch.from_numpy(batch.weights)
    objective.begin(scorer, Targets.of(batch, samples, weights, samples), [samples], seed=0)
    loss = objective.terms(samples, epoch=0).loss
    gradients = torch.autograd.grad(loss.sum(), parameters, allow_unused=True)
    return [loss.detach(), *(g for g in gradients if g is not None)]


class TestLearning:
    ALGO = replace(
        ALGO, lr=1e-4, num_epochs=3, num_minibatches=2, micro_batch_size=4, kl_stop=100.0
    )

    def test_good_policy_steps_become_likelier_than_bad_ones(self):
        policy = small_policy()
        batch = draw_batch(policy, NUM_SAMPLES)
        inputs = policy.encode(batch.observations, batch.tasks)
        chains = torch.from_numpy(batch.chains)

        @torch.no_grad()
        def likelihood() -> Tensor:
            means = policy.transition_means(policy.prefix(inputs), inputs, chains, SAMPLING)
            std = policy.scored_stds(SAMPLING)[:, None, None].expand(means.shape[1:])
            density = torch.distributions.Normal(means, std).log_prob(chains[:, 1:, :4, :7])
            return density.sum(dim=(1, 2, 3))

        before = likelihood()
        stats = train(policy, batch, self.ALGO)
        gain = likelihood() - before

        is_good = torch.from_numpy(batch.advantages > 0)
        assert gain[is_good].mean() > gain[~is_good].mean()
        assert stats.num_optimizer_steps == 6
        assert stats.kl > 0
        assert stats.grad_norm > 0

    def test_the_vision_language_model_stays_bit_identical_when_frozen(self):
        policy = small_policy()
        before = weights_of(policy)

        train(policy, draw_batch(policy, 4), self.ALGO)

        after = weights_of(policy)
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed
        assert not any("model.vlm." in name for name in changed)

    def test_the_vision_language_model_learns_when_everything_is_trained(self):
        policy = small_policy()
        before = weights_of(policy)

        train(policy, draw_batch(policy, 4), self.ALGO, expert_only=False)

        after = weights_of(policy)
        assert any("model.vlm." in k and not torch.equal(before[k], after[k]) for k in before)

    def test_same_inputs_give_the_same_bits(self):
        results = []
        for _ in range(2):
            policy = small_policy()
            stats = train(policy, draw_batch(policy, NUM_SAMPLES), self.ALGO)
            results.append((stats, weights_of(policy)))

        assert results[0][0] == results[1][0]
        assert are_equal(results[0][1], results[1][1])

    def test_the_seed_orders_the_samples(self):
        results = []
        for seed in (3, 4):
            policy = small_policy()
            train(policy, draw_batch(policy, NUM_SAMPLES), self.ALGO, seed=seed)
            results.append(weights_of(policy))

        assert not are_equal(*results)

    def test_it_stops_once_the_policy_has_moved_too_far(self):
        policy = small_policy()
        algo = replace(self.ALGO, lr=1e-3, kl_stop=1e-6)

        stats = train(policy, draw_batch(policy, NUM_SAMPLES), algo)

        # The first step starts at KL 0; the second minibatch finds that the bound is exceeded.
        assert stats.has_stopped_early
        assert stats.num_optimizer_steps == 1
        assert stats.kl > algo.kl_stop

    def test_metrics_are_plain_numbers(self):
        policy = small_policy()
        stats = train(policy, draw_batch(policy, 3), ALGO)

        metrics = asdict(stats)
        for name in ("stale_kl", "num_replayed", "effective_samples", "replay_kl", "critic"):
            assert metrics.pop(name) is None, name
        assert {type(value) for value in metrics.values()} <= {float, int, bool}


def test_a_learning_rate_of_zero_gives_ratios_of_one_in_every_pass():
    policy = small_policy()
    before = weights_of(policy)
    algo = replace(ALGO, lr=1e-30, num_epochs=2, num_minibatches=2, micro_batch_size=4)

    stats, gradients = record(policy, draw_batch(policy, NUM_SAMPLES), algo)

    assert len(gradients) == 4
    assert are_equal(before, weights_of(policy))
    assert (stats.log_ratio_max, stats.clip_fraction) == (0.0, 0.0)
    assert stats.kl < 1e-12  # other minibatches round differently
