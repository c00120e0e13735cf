import math

import pytest
import torch
from torch import Tensor

from pi0.ript.algo.objective import ReplayTotals
from pi0.ript.algo.transitions import (
    clip_fraction,
    clipped_surrogate,
    gaussian_kl,
    importance,
    log_ratio,
    smooth_surrogate,
    smooth_weight,
)
from pi0.sampler import make_schedule, transition_mean

CLIP = {"clip_low": 0.2, "clip_high": 0.2, "dual_clip": 3.0}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gradient_of_surrogate(ratio: float, advantage: float) -> float:
    logr = torch.tensor([[math.log(ratio)]], requires_grad=True)
    clipped_surrogate(logr, torch.tensor([advantage]), **CLIP).sum().backward()
    assert logr.grad is not None
    return logr.grad.item()


class TestLogRatio:
    def test_equal_means_give_exactly_zero(self):
        mean, x_next = normal(3, 4, 5, 7), normal(3, 4, 5, 7, seed=1)

        result = log_ratio(mean, mean.clone(), x_next, torch.tensor([0.5, 0.4, 0.3, 0.144]))

        assert torch.equal(result, torch.zeros(3, 4))

    def test_is_the_difference_of_summed_gaussian_log_densities(self):
        std = torch.tensor([0.5, 0.433, 0.25, 0.144], dtype=torch.float64)
        mean_old = normal(3, 4, 5, 7).double()
        mean = mean_old + 0.05 * normal(3, 4, 5, 7, seed=1).double()
        x_next = mean_old + 0.2 * normal(3, 4, 5, 7, seed=2).double()

        def density(center: Tensor) -> Tensor:
            scale = std[None, :, None, None].expand_as(center)
            return torch.distributions.Normal(center, scale).log_prob(x_next).sum(dim=(-2, -1))

        expected = density(mean) - density(mean_old)
        torch.testing.assert_close(log_ratio(mean, mean_old, x_next, std), expected)

    def test_old_policy_expects_a_ratio_of_one(self):
        # One step of std 0.5 over 35 entries, means 0.05 apart: |dmu / std|^2 = 35 * 0.01 = 0.35.
        draws = 0.5 * normal(50_000, 1, 5, 7)
        ratio = log_ratio(
            torch.full_like(draws, 0.05), torch.zeros_like(draws), draws, torch.tensor([0.5])
        ).exp()

        assert abs(ratio.mean() - 1) < 4 * ratio.std() / math.sqrt(len(ratio))


class TestGaussianKl:
    def test_matches_the_closed_form_of_torch(self):
        std = torch.tensor([0.5, 0.25])
        mean, mean_old = normal(3, 2, 5, 7), normal(3, 2, 5, 7, seed=1)
        scale = std[None, :, None, None].expand_as(mean)
        normals = (
            torch.distributions.Normal(mean_old, scale),
            torch.distributions.Normal(mean, scale),
        )

        expected = torch.distributions.kl_divergence(*normals).sum(dim=(-2, -1))
        torch.testing.assert_close(gaussian_kl(mean, mean_old, std), expected)

    def test_is_minus_the_expected_log_ratio(self):
        # KL = 35 * 0.05^2 / (2 * 0.5^2) = 0.175.
        draws = 0.5 * normal(50_000, 1, 5, 7)
        mean, std = torch.full_like(draws, 0.05), torch.tensor([0.5])
        logr = log_ratio(mean, torch.zeros_like(draws), draws, std)

        kl = gaussian_kl(mean, torch.zeros_like(draws), std)

        assert kl[0, 0].item() == pytest.approx(0.175, rel=1e-5)
        assert abs(kl.mean() + logr.mean()) < 4 * logr.std() / math.sqrt(len(logr))


class TestClippedSurrogate:
    @pytest.mark.parametrize(
        ("ratio", "advantage", "loss"),
        [
            (1.0, 2.0, -2.0),  # unchanged policy: minus the advantage
            (1.1, 2.0, -2.2),  # inside the range: ratio * advantage
            (1.5, 2.0, -2.4),  # good and already likelier: held at 1.2 * advantage
            (0.5, 2.0, -1.0),  # good but less likely: never held
            (0.5, -1.0, 0.8),  # bad and already less likely: held at 0.8
            (2.0, -1.0, 2.0),  # bad but likelier: grows ...
            (9.0, -1.0, 3.0),  # ... up to the dual clip
        ],
    )
    def test_value(self, ratio: float, advantage: float, loss: float):
        result = clipped_surrogate(
            torch.tensor([[math.log(ratio)]]), torch.tensor([advantage]), **CLIP
        )
        assert result.item() == pytest.approx(loss, rel=1e-5)

    def test_gradient_stops_where_nothing_more_is_to_be_gained(self):
        assert gradient_of_surrogate(ratio=1.3, advantage=1.0) == 0
        assert gradient_of_surrogate(ratio=0.7, advantage=-1.0) == 0
        assert gradient_of_surrogate(ratio=3.5, advantage=-1.0) == 0

    def test_gradient_remains_where_the_policy_moved_the_wrong_way(self):
        # d(-r A) / d log r = -r A.
        assert gradient_of_surrogate(ratio=0.7, advantage=1.0) == pytest.approx(-0.7, rel=1e-5)
        assert gradient_of_surrogate(ratio=1.3, advantage=-1.0) == pytest.approx(1.3, rel=1e-5)

    def test_gradient_at_an_unchanged_policy_is_minus_the_advantage(self):
        assert gradient_of_surrogate(ratio=1.0, advantage=0.25) == pytest.approx(-0.25)

    @pytest.mark.parametrize("advantage", [1.0, -1.0])
    @pytest.mark.parametrize("extreme", [-1e4, 1e4])
    def test_absurd_ratios_stay_finite(self, extreme: float, advantage: float):
        logr = torch.tensor([[extreme]], requires_grad=True)
        loss = clipped_surrogate(logr, torch.tensor([advantage]), **CLIP)
        loss.sum().backward()

        assert torch.isfinite(loss).all()
        assert logr.grad is not None
        assert torch.isfinite(logr.grad).all()

    def test_upper_and_lower_range_are_separate(self):
        logr = torch.tensor([[math.log(1.25)]])
        loss = clipped_surrogate(
            logr, torch.tensor([1.0]), clip_low=0.2, clip_high=0.28, dual_clip=3.0
        )
        assert loss.item() == pytest.approx(-1.25, rel=1e-5)


def test_ratios_outside_the_range_are_marked():
    logr = torch.log(torch.tensor([[0.7, 1.0, 1.1, 1.3], [1.0, 1.0, 1.0, 1.0]]))
    assert clip_fraction(logr, 0.2, 0.2).tolist() == [[1, 0, 0, 1], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("num_steps", "scale", "step", "expected"),
    [
        (4, 0.5, 0, 0.017), (4, 0.5, 3, 0.065), (5, 0.5, 0, 0.013), (5, 0.5, 4, 0.067),
        (10, 0.5, 0, 0.007), (10, 0.5, 9, 0.071), (10, 0.2, 0, 0.017), (10, 0.2, 9, 0.162),
    ],
)  # fmt: skip
def test_a_velocity_error_shows_in_the_log_ratio_by_the_known_amount(
    num_steps: int, scale: float, step: int, expected: float
):
    # What rounding does: velocities off by 4e-3 in 70 entries give log ratios of standard deviation
    # c_k * 4e-3 * sqrt(70), c_0 = d / a and c_k = sqrt(d) (1 + a^2 / 2) / a * sqrt((1 - t) / t).
    schedule = make_schedule(num_steps, scale)
    velocity, x = normal(20_000, 10, 7), normal(20_000, 10, 7, seed=1)
    error = 4e-3 * normal(10, 7, seed=2)
    error *= 4e-3 / error.square().mean().sqrt()
    mean_old = transition_mean(x, velocity, step, schedule)
    mean = transition_mean(x, velocity + error, step, schedule)
    std = torch.tensor([schedule.stds[step]])
    x_next = mean_old + std * normal(20_000, 10, 7, seed=3)

    found = log_ratio(mean[:, None], mean_old[:, None], x_next[:, None], std)

    # 3 percent, and the half of the last digit that the expected values were rounded to
    assert float(found.std()) == pytest.approx(expected, rel=0.03, abs=5e-4)


class TestImportance:
    """Weights of transitions that older weights drew."""

    def test_the_same_policy_weighs_exactly_one(self):
        assert torch.equal(importance(torch.zeros(3, 4)), torch.ones(3, 4))

    def test_an_expectation_over_older_draws_becomes_one_over_the_newer_policy(self):
        # Older mean 0, newer mean 0.02, std 0.5, 35 entries: KL = 35 * 0.04^2 / 2 = 0.028 per transition.
        draws = 0.5 * normal(200_000, 1, 5, 7)
        older, newer, std = (
            torch.zeros_like(draws),
            torch.full_like(draws, 0.02),
            torch.tensor([0.5]),
        )
        weight = importance(log_ratio(newer, older, draws, std))

        weighted = weight * draws.mean(dim=(-2, -1))

        standard_error = float(weighted.std()) / math.sqrt(len(draws))
        assert standard_error < 0.0005
        assert abs(float(weighted.mean()) - 0.02) < 4 * standard_error
        assert abs(float(draws.mean()) - 0.02) > 20 * standard_error

    def test_it_is_bounded(self):
        # exp(1) = 2.718, exp(2) = 7.389
        found = importance(torch.tensor([[-1.0, 1.0, 2.0, 200.0]]))
        assert found.tolist()[0] == pytest.approx([math.exp(-1), math.exp(1), 5.0, 5.0])


class TestSmoothSurrogate:
    """Replayed transitions: the gradient fades with the distance from the weights that drew them."""

    def test_the_same_policy_loses_exactly_minus_the_advantage(self):
        loss = smooth_surrogate(torch.zeros(2, 3), torch.tensor([2.0, -1.0]))
        assert torch.equal(loss, torch.tensor([[-2.0] * 3, [1.0] * 3]))

    @pytest.mark.parametrize(
        ("log_ratio", "weight"),
        [
            (0.0, 1.0),
            (0.25, math.exp(1 / 8)),  # s^2 = 1/4: the largest there is, exp(s^2 / 2)
            (0.5, 1.0),  # exp(x - 2 x^2) = 1 again at x = 2 s^2
            (1.0, math.exp(-1)),
            (-1.0, math.exp(-3)),
            (3.0, math.exp(-15)),
        ],
    )
    def test_loss_and_gradient_have_the_same_weight(self, log_ratio: float, weight: float):
        logr = torch.tensor([[log_ratio]], requires_grad=True)
        loss = smooth_surrogate(logr, torch.tensor([-2.0]))
        loss.sum().backward()

        assert float(smooth_weight(torch.tensor(log_ratio))) == pytest.approx(weight, rel=1e-5)
        assert loss.item() == pytest.approx(2.0 * weight, rel=1e-5)
        assert logr.grad is not None
        assert logr.grad.item() == pytest.approx(2.0 * weight, rel=1e-5)

    @pytest.mark.parametrize("extreme", [-1e4, 1e4])
    def test_absurd_ratios_count_nothing(self, extreme: float):
        logr = torch.tensor([[extreme]], requires_grad=True)
        loss = smooth_surrogate(logr, torch.tensor([1.0]))
        loss.sum().backward()

        assert logr.grad is not None
        assert loss.item() == logr.grad.item() == 0.0


def test_effective_share_is_one_for_equal_weights_and_falls_with_their_spread():
    def share(*weights: float) -> float | None:
        squares = sum(weight**2 for weight in weights)
        return ReplayTotals(1, len(weights), sum(weights), squares, 0.0).effective_share

    assert share(3.0, 3.0) == 1.0
    assert share(1.0, 3.0) == pytest.approx(16 / 20)  # (1 + 3)^2 / (2 (1 + 9))
    assert share() is None
    assert (
        share(0.0, 0.0) == 0.0
    )  # every weight has underflowed: nothing counts, and nothing is divided by
