"""Is the gradient of the loss the policy gradient of the sampler? A flow in one dimension has closed forms."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pi0.ript.algo.transitions import clipped_surrogate, gaussian_kl, log_ratio, mean_over_scored
from pi0.sampler import draw_chain, make_schedule, transition_means

CLIP = {"clip_low": 0.2, "clip_high": 0.2, "dual_clip": 3.0}


class LinearFlow:
    """A 1-D flow whose best velocity is known, drawn and scored by the sampler of the project.

    Data are N(0.3, s^2) and theta is a learned bias of the velocity, so the executed action's mean is linear
    in theta and the policy gradient of the reward -(a - 0.5)^2 has a closed form.
    """

    def __init__(self, num_steps: int, noise_scale: float, data_std: float) -> None:
        self.schedule = make_schedule(num_steps, noise_scale)
        self.stds = torch.tensor(self.schedule.stds, dtype=torch.float64)
        self.data_std = data_std

    def velocity(self, x: Tensor, step: int, theta: Tensor) -> Tensor:
        t = self.schedule.times[step]
        variance = (1 - t) ** 2 * self.data_std**2 + t * t
        slope = (t - (1 - t) * self.data_std**2) / variance
        return slope * (x - (1 - t) * 0.3) - 0.3 + theta

    def draw(
        self, count: int, theta: float, seed: int, noisy_steps: Tensor | None = None
    ) -> Tensor:
        """Return chains [count, S + 1, 1, 1]."""
        bias, generator = torch.tensor(theta), torch.Generator().manual_seed(seed)
        shape = (count, self.schedule.num_steps + 1, 1, 1)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        everywhere = torch.ones(1, 1, dtype=torch.bool)
        return draw_chain(
            lambda x, step: self.velocity(x, step, bias),
            noise,
            everywhere,
            self.schedule,
            noisy_steps,
        )

    def means(self, chains: Tensor, theta: Tensor) -> Tensor:
        """Return transition means [count, S, 1, 1]."""
        steps = range(self.schedule.num_steps)
        velocity = torch.stack([self.velocity(chains[:, k], k, theta) for k in steps], dim=1)
        return transition_means(chains[:, :-1], velocity, self.schedule)

    def losses(self, chains: Tensor, theta: Tensor) -> Tensor:
        """Return the surrogate of every transition at unchanged weights, [count, S]."""
        advantage = reward(chains) - reward(chains).mean()
        means = self.means(chains, theta)
        logr = log_ratio(means, means.detach(), chains[:, 1:], self.stds)
        return clipped_surrogate(logr, advantage, **CLIP)


def reward(chains: Tensor) -> Tensor:
    return -((chains[:, -1, 0, 0] - 0.5) ** 2)


def slope_of(loss: Callable[[Tensor], Tensor]) -> float:
    """Return the derivative of a loss of theta at 0."""
    theta = torch.zeros((), dtype=torch.float64, requires_grad=True)
    loss(theta).backward()
    assert theta.grad is not None
    return theta.grad.item()


# S, data std, and the closed forms at noise scale 0.5: gradient of the sampler with noise in every step, which
# scoring every step estimates; gradient of the one with a single noisy step, and what scoring it estimates.
TOYS = [
    (4, 0.05, -0.08926, -0.10095, -0.02961),
    (4, 0.2, -0.15414, -0.16352, -0.04659),
    (10, 0.05, -0.05269, -0.06090, -0.00696),
    (10, 0.2, -0.17171, -0.17801, -0.02003),
]
COUNT = 300_000


@pytest.mark.parametrize(("num_steps", "data_std", "gradient"), [toy[:3] for toy in TOYS])
class TestEveryStepScored:
    def test_gradient_of_the_loss_is_the_policy_gradient_of_the_sampler(
        self, num_steps: int, data_std: float, gradient: float
    ):
        # The per-sample signal-to-noise ratio is at least 0.426 here, so 300 000 samples give a relative
        # standard error of at most 0.43 percent; the tolerance is 3 percent.
        flow = LinearFlow(num_steps, 0.5, data_std)
        chains = flow.draw(COUNT, theta=0.0, seed=1)

        found = slope_of(lambda theta: flow.losses(chains, theta).sum(dim=1).mean())

        assert -found == pytest.approx(gradient, rel=0.03)

    def test_it_agrees_with_a_finite_difference_of_the_reward(
        self, num_steps: int, data_std: float, gradient: float
    ):
        # Common random numbers on both sides; J is quadratic in theta, so the central difference is exact.
        flow = LinearFlow(num_steps, 0.5, data_std)
        higher, lower = (reward(flow.draw(COUNT, theta, seed=7)).mean() for theta in (0.01, -0.01))

        assert float(higher - lower) / 0.02 == pytest.approx(gradient, abs=2e-3)

    def test_scoring_the_last_step_alone_is_not_the_gradient(
        self, num_steps: int, data_std: float, gradient: float
    ):
        # Why every step is scored: the others carry part of the effect of theta. The last step alone
        # estimates -0.4 d (1 + a^2 / 2), which is -0.1125 for S = 4 and -0.045 for S = 10. The signal-to-noise
        # ratio is at least 0.268: a standard error of 0.7 percent.
        flow = LinearFlow(num_steps, 0.5, data_std)
        chains = flow.draw(COUNT, theta=0.0, seed=1)

        found = slope_of(lambda theta: flow.losses(chains, theta)[:, -1].mean())

        assert -found == pytest.approx(-0.4 / num_steps * 1.125, rel=0.03)
        assert -found != pytest.approx(gradient, rel=0.1)


def draw_with_one_noisy_step(flow: LinearFlow, theta: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return chains [COUNT, S + 1, 1, 1] and is_scored [COUNT, S]."""
    num_steps = flow.schedule.num_steps
    steps = torch.randint(num_steps, (COUNT,), generator=torch.Generator().manual_seed(seed))
    chains = flow.draw(COUNT, theta, seed + 1, noisy_steps=steps)
    return chains, steps[:, None] == torch.arange(num_steps)


class TestOneScoredStep:
    """One random noisy step per chain: what pi_RL does, and why it is not the default."""

    @pytest.mark.parametrize(("data_std", "deviation"), [(0.05, 0.0745), (0.2, 0.1230)])
    def test_it_explores_half_as_much_as_all_steps(self, data_std: float, deviation: float):
        # All four steps give the action a deviation of 0.151 and 0.166.
        chains, _ = draw_with_one_noisy_step(LinearFlow(4, 0.5, data_std), 0.0, seed=1)
        assert float(chains[:, -1].std()) == pytest.approx(deviation, rel=0.01)

    @pytest.mark.parametrize(("num_steps", "data_std", "estimate"), [(*t[:2], t[4]) for t in TOYS])
    def test_its_estimate_is_not_the_gradient_of_its_sampler(
        self, num_steps: int, data_std: float, estimate: float
    ):
        # The per-sample signal-to-noise ratio is at least 0.244: a standard error of 0.75 percent.
        flow = LinearFlow(num_steps, 0.5, data_std)
        chains, is_scored = draw_with_one_noisy_step(flow, 0.0, seed=1)

        found = slope_of(
            lambda theta: mean_over_scored(flow.losses(chains, theta), is_scored).mean()
        )

        assert -found == pytest.approx(estimate, rel=0.03)

    @pytest.mark.parametrize(("num_steps", "data_std", "gradient"), [(*t[:2], t[3]) for t in TOYS])
    def test_the_gradient_of_its_sampler_is_another(
        self, num_steps: int, data_std: float, gradient: float
    ):
        flow = LinearFlow(num_steps, 0.5, data_std)
        higher, lower = (
            reward(draw_with_one_noisy_step(flow, theta, seed=7)[0]).mean()
            for theta in (0.01, -0.01)
        )

        assert float(higher - lower) / 0.02 == pytest.approx(gradient, abs=2e-3)


def test_ratio_keeps_expectation_one_after_a_few_optimizer_steps():
    flow = LinearFlow(4, 0.5, 0.2)
    chains = flow.draw(50_000, theta=0.0, seed=3)
    advantage = reward(chains) - reward(chains).mean()
    theta = torch.zeros((), dtype=torch.float64, requires_grad=True)
    mean_old = flow.means(chains, theta).detach()
    x_next = chains[:, 1:]
    adam = torch.optim.Adam([theta], lr=0.02)
    for _ in range(3):
        adam.zero_grad()
        logr = log_ratio(flow.means(chains, theta), mean_old, x_next, flow.stds)
        clipped_surrogate(logr, advantage, **CLIP).mean().backward()
        adam.step()

    fresh = flow.draw(50_000, theta=0.0, seed=4)
    old = flow.means(fresh, torch.zeros(()))
    new = flow.means(fresh, theta.detach())
    logr = log_ratio(new, old, fresh[:, 1:], flow.stds)
    ratio, kl = logr.exp(), gaussian_kl(new, old, flow.stds)

    standard_error = ratio.std(dim=0) / math.sqrt(len(ratio))
    assert ((ratio.mean(dim=0) - 1).abs() < 4 * standard_error).all()
    assert (kl >= 0).all()
    assert kl.mean() > 0
    assert abs(kl.mean() + logr.mean()) < 4 * logr.std() / math.sqrt(logr.numel())
