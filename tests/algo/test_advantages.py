import itertools
import math

import numpy as np
import pytest
import torch

from pi0.ript.algo.advantages import above_episode_mean, gae, leave_one_out, standardized


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


class TestGae:
    """A chain of three links: the one at place n holds with probability ``HOLDS[n]``, else the episode fails there.

    With a discount g the value of standing before link n is what reaches the end: V2 = p2, V1 = g p1 V2,
    V0 = g p0 V1.
    """

    HOLDS = (0.9, 0.5, 0.8)
    GAMMA = 0.9
    VALUES = np.array([GAMMA**2 * 0.9 * 0.5 * 0.8, GAMMA * 0.5 * 0.8, 0.8])

    def outcomes(self):
        """Return probability, length and reward of every episode that the chain has."""
        p0, p1, p2 = self.HOLDS
        return [
            (1 - p0, 1, 0.0),
            (p0 * (1 - p1), 2, 0.0),
            (p0 * p1 * (1 - p2), 3, 0.0),
            (p0 * p1 * p2, 3, 1.0),
        ]

    def advantages(self, length: int, reward: float, gae_lambda: float, values=VALUES):
        rewards = np.zeros(length)
        rewards[-1] = reward
        begins = np.arange(length) == 0
        return gae(rewards, values[:length], begins, self.GAMMA, gae_lambda)

    def test_a_success_advances_at_every_link_by_what_might_have_gone_wrong(self):
        # lambda 0: g V1 - V0 = g V1 (1 - p0), g V2 - V1 = g V2 (1 - p1), 1 - V2 = 1 - p2.
        found = self.advantages(3, 1.0, gae_lambda=0.0)

        _, v1, v2 = self.VALUES
        assert found == pytest.approx([0.9 * v1 * 0.1, 0.9 * v2 * 0.5, 0.2])

    def test_a_failure_loses_what_there_still_was_to_expect(self):
        found = self.advantages(2, 0.0, gae_lambda=0.0)

        assert found == pytest.approx([0.9 * self.VALUES[1] - self.VALUES[0], -self.VALUES[1]])

    def test_lambda_carries_later_surprises_back(self):
        # A0 = d0 + g l d1 + (g l)^2 d2
        now = self.advantages(3, 1.0, gae_lambda=0.0)

        found = self.advantages(3, 1.0, gae_lambda=0.5)

        assert found[0] == pytest.approx(now[0] + 0.45 * now[1] + 0.45**2 * now[2])
        assert found[2] == now[2]

    def test_lambda_one_compares_the_outcome_with_the_value(self):
        found = self.advantages(3, 1.0, gae_lambda=1.0)

        assert found == pytest.approx(self.GAMMA ** np.array([2, 1, 0]) - self.VALUES)

    @pytest.mark.parametrize("gae_lambda", [0.0, 0.5, 1.0])
    def test_with_exact_values_nothing_is_expected_from_any_step_but_surprise(self, gae_lambda):
        # The mean over all episodes that reach a link is 0 there: a baseline without error.
        total, squares = np.zeros(3), np.zeros(3)
        for probability, length, reward in self.outcomes():
            found = self.advantages(length, reward, gae_lambda)
            total[:length] += probability * found
            squares[:length] += probability * found**2

        assert total == pytest.approx(np.zeros(3), abs=1e-12)
        # Without a critic each step has R - 0.36, of variance 0.36 * 0.64, as often as it is reached.
        without = 0.36 * 0.64 * np.array([1.0, 0.9, 0.45])
        assert squares.sum() < without.sum()

    def test_episodes_do_not_know_each_other(self):
        begins = np.array([True, False, False, True, False])
        rewards, values = np.array([0.0, 0.0, 1.0, 0.0, 0.0]), self.VALUES[[0, 1, 2, 0, 1]]

        found = gae(rewards, values, begins, self.GAMMA, 0.95)

        assert found[:3].tolist() == self.advantages(3, 1.0, 0.95).tolist()
        assert found[3:].tolist() == self.advantages(2, 0.0, 0.95).tolist()


def test_what_is_above_the_mean_of_its_episode_sums_to_zero_in_each():
    begins = np.array([True, False, True, False, False])

    found = above_episode_mean(np.array([1.0, 3.0, 6.0, 3.0, 0.0]), begins)

    assert found.tolist() == [-1.0, 1.0, 3.0, 0.0, -3.0]


def test_standardized_numbers_have_mean_zero_and_deviation_one():
    # mean 2, deviation sqrt((4 + 0 + 4) / 3)
    found = standardized(np.array([0.0, 2.0, 4.0]))

    assert found == pytest.approx(np.array([-2.0, 0.0, 2.0]) / math.sqrt(8 / 3), rel=1e-4)


def test_numbers_that_are_all_alike_are_not_blown_up():
    assert standardized(np.full(7, 0.1)) == pytest.approx(np.zeros(7), abs=1e-10)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (TestGae.VALUES, 1.99),  # exact: what 1.99 / 1.64 = 1.21 times the groups would give
        (np.full(3, 0.36), 1.66),  # a value that tells no steps apart
        (1 - TestGae.VALUES, 1.31),  # expects most where there is least to expect
    ],
)
def test_spreading_an_advantage_by_exact_values_raises_signal_over_noise(values, expected):
    # The policy chooses at each link: a good action (probability p) holds, a bad one ends the episode. All mixed
    # groups of 4 episodes enumerated; |mean gradient|^2 / variance is 1.64 for leave-one-out alone.
    def gradient(group, rewards, weight):
        total = np.zeros(3)
        siblings = 4 / 3 * (rewards - rewards.mean())
        for (_, length, reward), advantage in zip(group, siblings, strict=True):
            begins, holds = np.arange(length) == 0, np.array(TestGae.HOLDS[:length])
            received = np.append(np.zeros(length - 1), reward)
            advances = gae(received, values[:length], begins, TestGae.GAMMA, 0.95)
            spread = advantage + weight * above_episode_mean(advances, begins)
            is_good = np.append(np.ones(length - 1), reward)
            total[:length] += spread * (is_good - holds) / length
        return total

    def signal_over_noise(weight):
        mean, square, probability_mixed = np.zeros(3), 0.0, 0.0
        for group in itertools.product(TestGae().outcomes(), repeat=4):
            rewards = np.array([reward for *_, reward in group])
            if 0 < rewards.sum() < 4:
                probability = math.prod(chance for chance, *_ in group)
                found = gradient(group, rewards, weight)
                mean += probability * found
                square += probability * float(found @ found)
                probability_mixed += probability
        mean /= probability_mixed
        return float(mean @ mean) / (square / probability_mixed - float(mean @ mean))

    assert signal_over_noise(0.0) == pytest.approx(1.64, abs=0.01)
    assert signal_over_noise(1.0) == pytest.approx(expected, abs=0.01)
