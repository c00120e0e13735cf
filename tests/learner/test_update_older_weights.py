"""Updates on samples that were drawn with older weights."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pi0.policy import Pi0Policy
from tests.learner.samples import SAMPLING, are_equal, draw_batch, weights_of
from tests.learner.updates import ALGO, NUM_SAMPLES, clones_of, train
from tests.policy_parts import small_policy


class TestOlderBehaviorWeights:
    """Samples that were drawn with weights one update older than those that learn from them."""

    ALGO = replace(ALGO, lr=3e-4, kl_stop=None)

    def test_they_are_weighted_by_how_likely_the_newer_weights_make_them(self):
        policy = small_policy()
        batch = draw_batch(policy, NUM_SAMPLES)
        older = clones_of(policy)
        train(policy, batch, self.ALGO)
        has_signal = (batch.advantages != 0) & (batch.weights > 0)
        inputs = policy.encode(batch.observations, batch.tasks)
        chains = torch.from_numpy(batch.chains)

        @torch.no_grad()
        def density(policy: Pi0Policy) -> Tensor:
            means = policy.transition_means(policy.prefix(inputs), inputs, chains, SAMPLING)
            std = policy.scored_stds(SAMPLING)[:, None, None].expand(means.shape[1:])
            found = torch.distributions.Normal(means.double(), std.double())
            return found.log_prob(chains[:, 1:, :4, :7]).sum(dim=(2, 3))

        behavior_policy = small_policy()  # drew the samples: the same seed gives the same weights
        weight = (density(policy) - density(behavior_policy)).exp().clamp(max=5.0).mean(dim=1)
        share = torch.from_numpy(batch.weights / batch.weights[has_signal].sum())
        # at unchanged weights every ratio is 1, so a sample's loss is -weight * advantage
        expected = -(share * weight * torch.from_numpy(batch.advantages))[has_signal].sum()

        stats = train(policy, batch, self.ALGO, behavior_weights=older)

        assert stats.loss == pytest.approx(float(expected), rel=1e-3)
        assert stats.stale_kl > 1e-4
        assert stats.log_ratio_max == 0.0
        assert abs(float(weight.mean()) - 1) > 1e-4

    def test_they_are_audited_against_the_behavior_weights(self):
        policy = small_policy()
        batch = draw_batch(policy, NUM_SAMPLES)
        older = clones_of(policy)
        with torch.no_grad():
            for parameter in policy.trainable_parameters(expert_only=True):
                parameter.mul_(1.2)

        stats = train(policy, batch, self.ALGO, behavior_weights=older)
        assert abs(stats.z_mean) < 0.15
        assert stats.rollout_log_ratio_std < 1e-4
        with pytest.raises(FloatingPointError, match="rollouts and trainer disagree"):
            train(policy, batch, self.ALGO)

    def test_weights_that_are_no_older_change_no_bit(self):
        batch = draw_batch(small_policy(), NUM_SAMPLES)
        fresh, behind = small_policy(), small_policy()

        first = train(fresh, batch, self.ALGO)
        second = train(behind, batch, self.ALGO, behavior_weights=clones_of(behind))

        assert second.stale_kl == 0
        assert replace(second, stale_kl=None) == first
        assert are_equal(weights_of(fresh), weights_of(behind))
