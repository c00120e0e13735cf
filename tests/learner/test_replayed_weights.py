"""What replayed samples weigh once the policy has changed: metrics, gradient and distance from written-out densities."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pi0.policy import Pi0Policy
from pi0.ript.algo.transitions import gaussian_kl, log_ratio, smooth_weight
from pi0.ript.config.algo import ReplayWeighting
from pi0.ript.learner.batch import idle_batch
from pi0.ript.learner.stats import UpdateStats
from pi0.ript.learner.update import update
from pi0.ript.types import Batch
from tests.learner.replaying import ALGO, NUM_SHARES, Learner, gradient
from tests.learner.samples import SAMPLING, draw_batch
from tests.learner.updates import NUM_SAMPLES
from tests.policy_parts import small_policy


class TestWeightsThatMoved:
    @torch.no_grad()
    def density(self, policy: Pi0Policy, batch: Batch) -> Tensor:
        """Return the log density of every transition, [B, S]."""
        inputs, chains = (
            policy.encode(batch.observations, batch.tasks),
            torch.from_numpy(batch.chains),
        )
        means = policy.transition_means(policy.prefix(inputs), inputs, chains, SAMPLING)
        std = policy.scored_stds(SAMPLING)[:, None, None].expand(means.shape[1:])
        normal = torch.distributions.Normal(means.double(), std.double())
        return normal.log_prob(chains[:, 1:, :4, :7]).sum(dim=(2, 3))

    @pytest.mark.parametrize("weighting", ["smooth", "decoupled"])
    def test_loss_and_metrics_are_those_of_the_densities(self, weighting: ReplayWeighting):
        # before the first optimizer step the loss of a transition is -A for a new sample, and for an old one with
        # log ratio x -min(e^x, 5) A, or smooth: -exp(x - 2 x^2) A
        learner = Learner(replace(ALGO, replay_weighting=weighting))
        first = learner.draw(1)
        learner.learn(1, first)
        log_ratios = self.density(learner.policy, first) - self.density(small_policy(), first)
        smooth = (log_ratios - 2 * log_ratios.square()).exp()
        weight = smooth if weighting == "smooth" else log_ratios.exp().clamp(max=5.0)
        batch = learner.replay.join(2, learner.draw(2), NUM_SHARES)
        everywhere = torch.ones(NUM_SAMPLES, dtype=torch.float64)
        share = torch.from_numpy(batch.weights / batch.weights.sum()).double()
        factor = torch.cat([weight.mean(dim=1), everywhere])
        expected = -(share * factor * torch.from_numpy(batch.advantages)).sum()

        _, stats = learner.learn(2, learner.draw(2))

        assert stats.loss == pytest.approx(float(expected), rel=1e-3)
        effective = weight.sum() ** 2 / (weight.numel() * weight.square().sum())
        assert stats.effective_samples == pytest.approx(float(effective), rel=1e-4)
        assert stats.effective_samples < 0.9999
        assert stats.log_ratio_max == 0.0

    def test_distance_is_the_kl_from_the_weights_that_drew(self):
        learner = Learner()
        learner.learn(1)
        [kept] = learner.replay.kept
        _, stats = learner.learn(2)

        drawn_with = kept.samples.behavior_means
        _, means = learner.objective.means_before
        assert drawn_with is not None
        std = learner.policy.scored_stds(SAMPLING)
        expected = gaussian_kl(means[:NUM_SAMPLES], torch.from_numpy(drawn_with), std).mean()
        assert stats.replay_kl == pytest.approx(float(expected), rel=1e-5)
        assert stats.replay_kl > 1e-6

    def test_new_samples_alone_are_audited(self):
        learner = Learner()
        learner.learn(1)
        with torch.no_grad():
            for parameter in learner.policy.trainable_parameters(expert_only=True):
                parameter.mul_(1.2)  # so far that an audit of old samples fails

        _, stats = learner.learn(2)

        assert stats.rollout_log_ratio_std < 1e-4
        old = replace(learner.replay.join(3, learner.draw(3), NUM_SHARES), behavior_means=None)
        with pytest.raises(FloatingPointError, match="rollouts and trainer disagree"):
            gradient(learner, old)

    def test_a_batch_of_old_samples_alone_is_not_audited(self):
        learner = Learner()
        learner.learn(1)
        idle = idle_batch(learner.policy.card, SAMPLING.num_steps)

        _, stats = learner.learn(2, idle)

        assert stats.z_variance == 0.0
        assert stats.num_replayed == NUM_SAMPLES

    def test_where_one_step_is_scored_the_others_weigh_nothing(self):
        sampling = replace(SAMPLING, scored_steps="one")
        algo = replace(ALGO, scored_steps="one")
        learner = Learner(algo)
        found: UpdateStats | None = None
        for step in (1, 2):
            new = draw_batch(learner.policy, NUM_SAMPLES, step, sampling)
            batch = learner.replay.join(step, new, NUM_SHARES)
            found = update(
                learner.policy, learner.engine, batch, learner.objective, algo, sampling, step,
                has_frozen_prefix=True,
            )  # fmt: skip
            learner.replay.keep(step, batch, NUM_SHARES, learner.objective)

        first = batch.behavior_means
        _, means = learner.objective.means_before
        assert found is not None
        assert first is not None
        old = slice(NUM_SAMPLES)
        x_next = torch.from_numpy(batch.chains[old, 1:, :4, :7])
        std = learner.policy.scored_stds(sampling)
        x = log_ratio(means[old], torch.from_numpy(first), x_next, std)[batch.is_scored[old]]
        assert len(x) == NUM_SAMPLES, "one transition each"
        weight = smooth_weight(x.double())
        effective = weight.sum() ** 2 / (NUM_SAMPLES * weight.square().sum())
        assert found.effective_samples == pytest.approx(float(effective), rel=1e-5)


def test_smooth_weights_agree_with_their_maximum():
    # exp(x - 2 x^2) has its largest value exp(1/8) at x = 1/4
    x = torch.linspace(-2, 2, 4001, dtype=torch.float64)
    assert float(smooth_weight(x).max()) == pytest.approx(np.exp(1 / 8), rel=1e-9)
    assert float(x[smooth_weight(x).argmax()]) == pytest.approx(0.25, abs=1e-3)
