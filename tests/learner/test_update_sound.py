"""An update refuses samples and numbers that it cannot learn from."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.learner.samples import SAMPLING, are_equal, draw_batch, weights_of
from tests.learner.updates import ALGO, NUM_SAMPLES, record, train
from tests.policy_parts import small_policy


class TestAudit:
    """Stored chains must be draws of the policy that is about to learn from them."""

    def test_own_chains_pass_with_standard_normal_noise(self):
        policy = small_policy()

        stats, _ = record(policy, draw_batch(policy, 8), ALGO)

        # 7 or 8 samples x 4 steps x 4 x 7 entries: 784 or more numbers.
        assert abs(stats.z_mean) < 4 / 784**0.5
        assert abs(stats.z_variance - 1) < 4 * (2 / 784) ** 0.5
        assert stats.off_mask_error < 1e-5
        # the trainer packs samples differently and so rounds differently
        assert abs(stats.rollout_log_ratio_mean) < 1e-4
        assert stats.rollout_log_ratio_std < 1e-4

    def test_a_change_that_hides_in_the_noise_ends_the_update(self):
        # Means of the last step that are off by 0.03, a fifth of its noise of 0.144: the mean of z over all
        # four steps is off by 0.05, as little as chance allows. The log ratio has mean 28 * 0.2 ** 2 / 2 = 0.6.
        policy = small_policy()
        batch = draw_batch(policy, 8)
        chains = batch.chains.copy()
        chains[:, -1, :4, :7] += 0.03

        with pytest.raises(FloatingPointError, match="mean log ratio off by"):
            record(policy, replace(batch, chains=chains), ALGO)

    def test_noise_of_another_seed_ends_the_update(self):
        policy = small_policy()
        batch = draw_batch(policy, 8)

        with pytest.raises(FloatingPointError, match="log ratio"):
            record(policy, replace(batch, seeds=batch.seeds[::-1].copy()), ALGO)

    @pytest.mark.parametrize("entry", [(slice(None), -1, 4), (slice(None), -1, 0, 8)])
    def test_a_step_without_noise_that_is_no_euler_step_ends_the_update(self, entry):
        policy = small_policy()
        batch = draw_batch(policy, 4)
        chains = batch.chains.copy()
        chains[entry] += 0.01

        with pytest.raises(FloatingPointError, match=r"step without noise off by 0\.01"):
            record(policy, replace(batch, chains=chains), ALGO)

    def test_chains_of_another_noise_scale_end_the_update(self):
        # Drawn with a = 0.7 and scored with a = 0.5: the variance of z is at least 1.96.
        policy = small_policy()
        batch = draw_batch(policy, 8, sampling=replace(SAMPLING, noise_scale=0.7))

        with pytest.raises(FloatingPointError, match="variance of z"):
            record(policy, batch, ALGO)

    def test_chains_of_another_policy_end_the_update(self):
        policy = small_policy()
        batch = draw_batch(small_policy(seed=1), 8)

        with pytest.raises(FloatingPointError, match="rollouts and trainer disagree"):
            record(policy, batch, ALGO)


class TestNumbersThatAreNotFinite:
    @pytest.mark.parametrize("field", ["chains", "advantages"])
    def test_they_end_the_update_before_any_weight_changes(self, field: str):
        policy = small_policy()
        batch = draw_batch(policy, NUM_SAMPLES)
        values = getattr(batch, field).copy()
        values[-1] = np.nan
        before = weights_of(policy)

        with pytest.raises(FloatingPointError, match="not finite"):
            train(policy, replace(batch, **{field: values}), ALGO)

        assert are_equal(before, weights_of(policy))
        assert all(parameter.grad is None for parameter in policy.network.parameters())

    def test_a_broken_weight_is_noticed_before_the_first_step(self):
        policy = small_policy()
        batch = draw_batch(policy, 3)
        with torch.no_grad():
            policy.network.expert_parameters()[0].view(-1)[0] = torch.nan

        with pytest.raises(FloatingPointError, match="velocities"):
            train(policy, batch, ALGO)
