import itertools
import math

import numpy as np
import pytest
import torch

from pi0.ript.algo.advantages import leave_one_out


def rewards_with(successes: int, rollouts: int) -> torch.Tensor:
    return torch.tensor([[1.0] * successes + [0.0] * (rollouts - successes)], dtype=torch.float64)


def test_one_success_of_eight_is_worth_one_and_each_failure_a_seventh():
    # Siblings of the success average 0; siblings of a failure average 1/7.
    advantages = leave_one_out(rewards_with(1, 8))[0]

    torch.testing.assert_close(advantages[0].item(), 1.0)
    torch.testing.assert_close(advantages[1:], torch.full((7,), -1 / 7, dtype=torch.float64))


@pytest.mark.parametrize("successes", range(1, 8))
def test_every_split_matches_the_closed_form(successes: int):
    # A success: (K - s) / (K - 1); a failure: -s / (K - 1); equal to K / (K - 1) * (R - mean R).
    rewards = rewards_with(successes, 8)
    advantages = leave_one_out(rewards)

    assert advantages[0, 0].item() == pytest.approx((8 - successes) / 7, abs=1e-12)
    assert advantages[0, -1].item() == pytest.approx(-successes / 7, abs=1e-12)
    torch.testing.assert_close(advantages, 8 / 7 * (rewards - rewards.mean()), rtol=0, atol=1e-12)


def test_advantages_of_a_group_sum_to_zero_and_ignore_a_reward_shift():
    rewards = torch.rand(5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    advantages = leave_one_out(rewards)

    assert advantages.sum(dim=1).abs().max() < 1e-12
    torch.testing.assert_close(advantages, leave_one_out(rewards + 5), rtol=0, atol=1e-12)


@pytest.mark.parametrize("successes", [0, 8])
def test_a_uniform_group_has_advantage_exactly_zero(successes: int):
    assert torch.equal(leave_one_out(rewards_with(successes, 8)), torch.zeros(1, 8).double())


def test_groups_do_not_know_each_other():
    both = torch.cat([rewards_with(1, 4), rewards_with(3, 4)])

    torch.testing.assert_close(leave_one_out(both)[:1], leave_one_out(both[:1]), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(3, 1), (3, 0), (4,)])
def test_no_sibling_is_an_error_that_names_the_setting(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="rloo_batch_size"):
        leave_one_out(torch.zeros(shape))


def test_expected_gradient_of_a_bandit_is_exact_and_rejection_does_not_bias_it():
    # Two arms, pi(1) = sigmoid(0.3), success rates 0.7 and 0.2, groups of 4, all outcomes enumerated.
    # True gradient: pi (1 - pi) (0.7 - 0.2) = 0.1222. Subtracting the plain mean would shrink it by
    # 3/4 to 0.0917; dividing by the deviation (GRPO) would give 0.171.
    pi = 1 / (1 + math.exp(-0.3))
    joint = {(1, 1): pi * 0.7, (1, 0): pi * 0.3, (0, 1): (1 - pi) * 0.2, (0, 0): (1 - pi) * 0.8}
    gradient = {"all": 0.0, "mixed": 0.0, "mean": 0.0, "std": 0.0}
    probability_mixed = 0.0
    for group in itertools.product(joint, repeat=4):
        probability = math.prod(joint[outcome] for outcome in group)
        score = np.array([arm - pi for arm, _ in group])
        rewards = np.array([[reward for _, reward in group]], dtype=np.float64)
        centered = rewards[0] - rewards.mean()
        term = (leave_one_out(torch.from_numpy(rewards))[0].numpy() * score).mean()
        is_mixed = 0 < rewards.sum() < 4
        gradient["all"] += probability * term
        gradient["mixed"] += probability * term * is_mixed
        gradient["mean"] += probability * (centered * score).mean()
        gradient["std"] += probability * (centered / (rewards.std(ddof=1) + 1e-6) * score).mean()
        probability_mixed += probability * is_mixed

    assert gradient["all"] == pytest.approx(0.1222, abs=1e-4)
    assert gradient["all"] == pytest.approx(pi * (1 - pi) * 0.5, abs=1e-12)
    assert gradient["mixed"] == pytest.approx(gradient["all"], abs=1e-12)
    assert gradient["mean"] == pytest.approx(0.0917, abs=1e-4)
    assert gradient["std"] == pytest.approx(0.171, abs=1e-3)
    assert probability_mixed == pytest.approx(0.8745, abs=1e-4)
