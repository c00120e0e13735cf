import math

import pytest
import torch
from torch import Tensor

from pi0.ript.algo.flow_sde import (
    clip_fraction,
    clipped_surrogate,
    gaussian_kl,
    importance,
    log_ratio,
    mean_over_scored,
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

        def density(centre: Tensor) -> Tensor:
            scale = std[None, :, None, None].expand_as(centre)
            return torch.distributions.Normal(centre, scale).log_prob(x_next).sum(dim=(-2, -1))

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


class LinearFlow:
    """A 1-D flow whose best velocity is known: data N(0.3, s^2), plus a learnt bias theta.

    With one shared bias the executed action's mean is linear in theta, so the policy gradient of any
    reward -(a - 0.5)^2 has a closed form.
    """

    def __init__(self, num_steps: int, noise_scale: float, data_std: float) -> None:
        self.times = [1 - k / num_steps for k in range(num_steps)]
        self.d = 1 / num_steps
        self.sigmas = [
            noise_scale * math.sqrt(t / (1 - t if t < 1 else self.d)) for t in self.times
        ]
        self.stds = torch.tensor([s * math.sqrt(self.d) for s in self.sigmas], dtype=torch.float64)
        self.data_std = data_std

    def mean(self, x: Tensor, step: int, theta: Tensor) -> Tensor:
        t, sigma = self.times[step], self.sigmas[step]
        variance = (1 - t) ** 2 * self.data_std**2 + t * t
        slope = (t - (1 - t) * self.data_std**2) / variance
        velocity = slope * (x - (1 - t) * 0.3) - 0.3 + theta
        correction = sigma**2 / (2 * t) * (x + (1 - t) * velocity)
        return x - self.d * (velocity + correction)

    def draw(self, count: int, theta: float, seed: int) -> Tensor:
        """Return chains [count, S + 1]."""
        noise = torch.Generator().manual_seed(seed)
        x = [torch.randn(count, generator=noise, dtype=torch.float64)]
        for step in range(len(self.times)):
            mean = self.mean(x[-1], step, torch.tensor(theta))
            fresh = torch.randn(count, generator=noise, dtype=torch.float64)
            x.append(mean + self.stds[step] * fresh)
        return torch.stack(x, dim=1)

    def means(self, chains: Tensor, theta: Tensor) -> Tensor:
        """Return transition means [count, S, 1, 1]."""
        columns = [self.mean(chains[:, k], k, theta) for k in range(len(self.times))]
        return torch.stack(columns, dim=1)[..., None, None]


def reward(chains: Tensor) -> Tensor:
    return -((chains[:, -1] - 0.5) ** 2)


@pytest.mark.parametrize(
    ("num_steps", "data_std", "gradient"),
    [(4, 0.05, -0.08926), (4, 0.2, -0.15414), (10, 0.05, -0.05269), (10, 0.2, -0.17171)],
)
def test_gradient_of_the_loss_is_the_policy_gradient_of_the_sampler(
    num_steps: int, data_std: float, gradient: float
):
    # Noise scale 0.5. The per-sample signal-to-noise ratio is at least 0.426 here, so 300 000 samples
    # give a relative standard error of at most 0.43 percent; the tolerance is 3 percent.
    flow = LinearFlow(num_steps, 0.5, data_std)
    chains = flow.draw(300_000, theta=0.0, seed=1)
    advantage = reward(chains) - reward(chains).mean()
    theta = torch.zeros((), dtype=torch.float64, requires_grad=True)
    mean_old = flow.means(chains, theta).detach()

    logr = log_ratio(flow.means(chains, theta), mean_old, chains[:, 1:, None, None], flow.stds)
    loss = clipped_surrogate(logr, advantage, **CLIP).sum(dim=1).mean()
    loss.backward()

    assert theta.grad is not None
    assert -theta.grad.item() == pytest.approx(gradient, rel=0.03)


def test_gradient_agrees_with_a_finite_difference_of_the_reward():
    # Common random numbers on both sides; J is quadratic in theta, so the central difference is exact.
    flow = LinearFlow(4, 0.5, 0.05)
    higher, lower = (reward(flow.draw(300_000, theta, seed=7)).mean() for theta in (0.01, -0.01))

    assert float(higher - lower) / 0.02 == pytest.approx(-0.08926, abs=2e-3)


def test_scoring_the_last_step_alone_is_not_the_gradient():
    # Why every step is scored: the frozen steps carry part of the effect of theta. K = 4, s = 0.05:
    # scoring the last step alone estimates 0.4 * d * (1 + a^2 / 2) = 0.1125, not 0.0893.
    flow = LinearFlow(4, 0.5, 0.05)
    chains = flow.draw(300_000, theta=0.0, seed=1)
    advantage = reward(chains) - reward(chains).mean()
    theta = torch.zeros((), dtype=torch.float64, requires_grad=True)
    mean_old = flow.means(chains, theta).detach()
    logr = log_ratio(flow.means(chains, theta), mean_old, chains[:, 1:, None, None], flow.stds)
    (-clipped_surrogate(logr, advantage, **CLIP)[:, -1].mean()).backward()

    assert theta.grad is not None
    assert theta.grad.item() == pytest.approx(-0.1125, rel=0.03)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.017), (3, 0.065)])
def test_a_velocity_error_shows_in_the_log_ratio_by_the_known_amount(step: int, expected: float):
    # What rounding does: velocities off by 4e-3 in 70 entries give log ratios of standard deviation
    # c_k * 4e-3 * sqrt(70); S = 4, a = 0.5: c_0 = d / a = 0.5, c_3 = sqrt(d) (1 + a^2 / 2) / a * sqrt(3).
    schedule = make_schedule(4, 0.5)
    velocity, x = normal(20_000, 10, 7), normal(20_000, 10, 7, seed=1)
    error = 4e-3 * normal(10, 7, seed=2)
    error *= 4e-3 / error.square().mean().sqrt()
    mean_old = transition_mean(x, velocity, step, schedule)
    mean = transition_mean(x, velocity + error, step, schedule)
    std = torch.tensor([schedule.stds[step]])
    x_next = mean_old + std * normal(20_000, 10, 7, seed=3)

    found = log_ratio(mean[:, None], mean_old[:, None], x_next[:, None], std)

    assert float(found.std()) == pytest.approx(expected, rel=0.03)


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


class TestOneScoredStep:
    """One random noisy step per chain: what pi_RL does, and why it is not the default."""

    @staticmethod
    def draw(
        count: int, data_std: float, theta: float = 0.0, seed: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Return chains [count, 5] and is_scored [count, 4]."""
        flow, generator = LinearFlow(4, 0.5, data_std), torch.Generator().manual_seed(seed)
        steps = torch.randint(4, (count,), generator=generator)
        is_scored = steps[:, None] == torch.arange(4)
        quiet = LinearFlow(4, 0.0, data_std)
        x = [torch.randn(count, generator=generator, dtype=torch.float64)]
        for step in range(4):
            noise = torch.randn(count, generator=generator, dtype=torch.float64)
            noisy = flow.mean(x[-1], step, torch.tensor(theta)) + flow.stds[step] * noise
            euler = quiet.mean(x[-1], step, torch.tensor(theta))
            x.append(torch.where(is_scored[:, step], noisy, euler))
        return torch.stack(x, dim=1), is_scored

    @pytest.mark.parametrize(("data_std", "spread"), [(0.05, 0.0745), (0.2, 0.1230)])
    def test_it_explores_half_as_much_as_all_steps(self, data_std: float, spread: float):
        # All four steps spread the action by 0.151 and 0.166.
        chains, _ = self.draw(300_000, data_std)
        assert float(chains[:, -1].std()) == pytest.approx(spread, rel=0.01)

    @pytest.mark.parametrize(("data_std", "estimate"), [(0.05, -0.02961), (0.2, -0.04659)])
    def test_its_estimate_is_not_the_gradient_of_its_sampler(
        self, data_std: float, estimate: float
    ):
        # The gradients of this sampler are -0.10095 and -0.16352: right sign, about a quarter. The per-sample
        # signal-to-noise ratio is 0.244, so 300 000 samples give a standard error of 0.75 percent.
        chains, is_scored = self.draw(300_000, data_std)
        flow = LinearFlow(4, 0.5, data_std)
        advantage = reward(chains) - reward(chains).mean()
        theta = torch.zeros((), dtype=torch.float64, requires_grad=True)
        mean_old = flow.means(chains, theta).detach()

        logr = log_ratio(flow.means(chains, theta), mean_old, chains[:, 1:, None, None], flow.stds)
        logr = torch.where(is_scored, logr, 0.0)
        mean_over_scored(clipped_surrogate(logr, advantage, **CLIP), is_scored).mean().backward()

        assert theta.grad is not None
        assert -theta.grad.item() == pytest.approx(estimate, rel=0.03)


def test_ratio_keeps_expectation_one_after_a_few_optimizer_steps():
    flow = LinearFlow(4, 0.5, 0.2)
    chains = flow.draw(50_000, theta=0.0, seed=3)
    advantage = reward(chains) - reward(chains).mean()
    theta = torch.zeros((), dtype=torch.float64, requires_grad=True)
    mean_old = flow.means(chains, theta).detach()
    x_next = chains[:, 1:, None, None]
    adam = torch.optim.Adam([theta], lr=0.02)
    for _ in range(3):
        adam.zero_grad()
        logr = log_ratio(flow.means(chains, theta), mean_old, x_next, flow.stds)
        clipped_surrogate(logr, advantage, **CLIP).mean().backward()
        adam.step()

    fresh = flow.draw(50_000, theta=0.0, seed=4)
    old = flow.means(fresh, torch.zeros(()))
    new = flow.means(fresh, theta.detach())
    logr = log_ratio(new, old, fresh[:, 1:, None, None], flow.stds)
    ratio, kl = logr.exp(), gaussian_kl(new, old, flow.stds)

    standard_error = ratio.std(dim=0) / math.sqrt(len(ratio))
    assert ((ratio.mean(dim=0) - 1).abs() < 4 * standard_error).all()
    assert (kl >= 0).all()
    assert kl.mean() > 0
    assert abs(kl.mean() + logr.mean()) < 4 * logr.std() / math.sqrt(logr.numel())
