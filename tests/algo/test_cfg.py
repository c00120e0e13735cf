"""Classifier-free guidance: the formulas, and what they mean for a real network."""

import numpy as np
import pytest
import torch

from pi0.ript.algo.cfg import cfg_loss
from pi0.sampler import guided
from tests.learner.samples import SAMPLING
from tests.policy_parts import TASKS, make_observations, small_policy


def test_only_good_rollouts_train_the_conditional_branch():
    # Errors are 1 (conditional) and 4 (unconditional) everywhere, weight 0.1.
    shape = (3, 2, 4, 7)
    target = torch.zeros(shape)
    losses = cfg_loss(
        torch.ones(shape), torch.full(shape, 2.0), target, torch.tensor([1.0, -0.5, 0.0]), 0.1
    )

    torch.testing.assert_close(losses, torch.tensor([[1.4, 1.4], [0.4, 0.4], [0.4, 0.4]]))


@pytest.mark.parametrize(("guidance", "expected"), [(0.0, 1.0), (1.0, 3.0), (1.5, 4.0), (3.0, 7.0)])
def test_guidance_goes_from_the_unconditional_through_the_conditional_branch(
    guidance: float, expected: float
):
    # v_u = 1, v_c = 3: 1 + w * 2.
    found = guided(lambda is_conditional: torch.tensor(3.0 if is_conditional else 1.0), guidance)
    assert float(found) == expected


@pytest.mark.parametrize(("guidance", "branch"), [(1.0, True), (0.0, False)])
def test_a_single_branch_costs_a_single_pass(guidance: float, branch: bool):
    called = []

    def velocity(is_conditional: bool) -> torch.Tensor:
        called.append(is_conditional)
        return torch.zeros(())

    guided(velocity, guidance)

    assert called == [branch]


class TestNetwork:
    @pytest.mark.parametrize("guidance", [0.0, 1.0, 3.0])
    def test_an_untouched_checkpoint_acts_the_same_under_every_guidance(self, guidance: float):
        # The unconditional branch begins equal to the network: v + w * (v - v) = v.
        policy = small_policy()
        plain = policy.act(make_observations(3), TASKS[:3], [1, 2, 3], SAMPLING)
        policy.network.add_unconditional()

        sampling = type(SAMPLING)(num_steps=4, noise_scale=0.5, guidance=guidance)
        guided_chunks = policy.act(make_observations(3), TASKS[:3], [1, 2, 3], sampling)

        for one, other in zip(plain, guided_chunks, strict=True):
            np.testing.assert_array_equal(one.chain, other.chain)

    @torch.no_grad()
    def test_guidance_mixes_the_branches_of_a_trained_network(self):
        policy = small_policy()
        policy.network.add_unconditional().normal_(generator=torch.Generator().manual_seed(0))
        inputs = policy.encode(make_observations(2), TASKS[:2])
        prefix = policy.prefix(inputs)
        x = torch.randn(2, 3, 6, 9, generator=torch.Generator().manual_seed(1))
        times = torch.tensor([1.0, 0.5, 0.25])

        def velocity(guidance: float) -> torch.Tensor:
            return policy.velocity(prefix, inputs, x, times, guidance=guidance)

        unconditional, conditional = velocity(0.0), velocity(1.0)

        assert float((conditional - unconditional).abs().max()) > 1e-3
        torch.testing.assert_close(
            velocity(2.0), unconditional + 2.0 * (conditional - unconditional)
        )

    def test_the_conditional_branch_is_the_network_as_it_is(self):
        policy = small_policy()
        before = policy.act(make_observations(2), TASKS[:2], [1, 2], SAMPLING)
        policy.network.add_unconditional().data.normal_(generator=torch.Generator().manual_seed(0))

        after = policy.act(make_observations(2), TASKS[:2], [1, 2], SAMPLING)

        for one, other in zip(before, after, strict=True):
            np.testing.assert_array_equal(one.chain, other.chain)
