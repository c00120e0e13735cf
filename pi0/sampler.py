"""Denoising chains over a velocity function: pure tensor functions.

Convention: t = 1 is noise and t = 0 is action; x_t = t * noise + (1 - t) * action, so the network's
velocity v points from action to noise. A grid of S steps has t_k = 1 - k / S and d = 1 / S.

Flow-SDE (noise scale a > 0) replaces the Euler step by a Gaussian transition with

    mean_k = x - d * (v + c_k * (x + (1 - t_k) * v)),   c_k = sigma_k^2 / (2 t_k)
    std_k  = sigma_k * sqrt(d),   sigma_k = a * sqrt(t_k / (1 - t_k)),   1 - t_0 replaced by d

which keeps the marginals of the ODE as S grows. a = 0 is the Euler step itself.

Shape legend: B samples, S denoise steps, H actions per chunk, A action dims.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

VelocityFunction = Callable[[Tensor, int], Tensor]


def draw_noise(
    seeds: Sequence[int], num_steps: int, horizon: int, action_dim: int
) -> tuple[Tensor, Tensor]:
    """Return what the chains of B samples need.

    Args:
        seeds: Of every sample.
        num_steps: Denoise steps S.
        horizon: Actions per chunk H.
        action_dim: Model action dims A.

    Returns:
        Noise float32 [B, S + 1, H, A], whose entry 0 begins the chain, and a denoise step int64 [B].
    """
    shape = (num_steps + 1, horizon, action_dim)
    generators = [np.random.Generator(np.random.Philox(seed)) for seed in seeds]
    noise = np.stack([g.standard_normal(shape, dtype=np.float32) for g in generators])
    steps = np.array([g.integers(num_steps) for g in generators])
    return torch.from_numpy(noise), torch.from_numpy(steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The time grid and noise of a chain; every tuple has S entries.

    Attributes:
        times: t_k, from 1 down to d.
        dt: d.
        sigmas: Diffusion coefficients.
        stds: Standard deviations of the transitions; ``stds[0]`` = a.
        score_weights: c_k, weights of the correction that keeps the marginals.
    """

    times: tuple[float, ...]
    dt: float
    sigmas: tuple[float, ...]
    stds: tuple[float, ...]
    score_weights: tuple[float, ...]

    @property
    def num_steps(self) -> int:
        """Return S."""
        return len(self.times)

    @property
    def is_stochastic(self) -> bool:
        """Return whether any step injects noise."""
        return self.stds[0] > 0

    def times_on(self, device: torch.device) -> Tensor:
        """Return the times on a device, float32 [S]."""
        return torch.tensor(self.times, dtype=torch.float32, device=device)


def make_schedule(num_steps: int, noise_scale: float) -> Schedule:
    """Return the grid of S >= 1 steps (S >= 2 with noise) and noise scale a >= 0."""
    if num_steps < (2 if noise_scale > 0 else 1):
        raise ValueError(f"num_steps must be >= 2 with noise and >= 1 without, got {num_steps}")
    if noise_scale < 0:
        raise ValueError(f"noise_scale must be >= 0, got {noise_scale}")
    dt = 1.0 / num_steps
    times = tuple(1.0 - k / num_steps for k in range(num_steps))
    # 1 - t is 0 at the first step, where the coefficient would be infinite
    sigmas = tuple(noise_scale * (t / max(1.0 - t, dt)) ** 0.5 for t in times)
    return Schedule(
        times=times,
        dt=dt,
        sigmas=sigmas,
        stds=tuple(sigma * dt**0.5 for sigma in sigmas),
        score_weights=tuple(s**2 / (2 * t) for s, t in zip(sigmas, times, strict=True)),
    )


def transition_mean(x: Tensor, velocity: Tensor, step: int, schedule: Schedule) -> Tensor:
    """Return the mean of x_{k+1} given x_k: one step k, any shape."""
    t, weight = schedule.times[step], schedule.score_weights[step]
    return x - schedule.dt * (velocity + weight * (x + (1.0 - t) * velocity))


def transition_means(x: Tensor, velocity: Tensor, schedule: Schedule) -> Tensor:
    """Return the means of all S transitions, [B, S, H, A]; ``x[:, k]`` is the chain before step k."""
    means = [
        transition_mean(x[:, step], velocity[:, step], step, schedule)
        for step in range(schedule.num_steps)
    ]
    return torch.stack(means, dim=1)


def draw_chain(
    velocity: VelocityFunction,
    noise: Tensor,
    is_noisy: Tensor,
    schedule: Schedule,
    noisy_steps: Tensor | None = None,
) -> Tensor:
    """Denoise from ``noise[:, 0]`` to an action chunk.

    Args:
        velocity: (x [B, H, A], step k) -> velocity [B, H, A].
        noise: Standard normal [B, S + 1, H, A]; ``noise[:, k + 1]`` drives step k.
        is_noisy: Bool [H, A]: where transitions are Gaussian; the ODE step is taken elsewhere.
        schedule: Grid and noise.
        noisy_steps: Int64 [B], the only step of each sample that is Gaussian; None for all steps.

    Returns:
        The chain [B, S + 1, H, A]; the last entry is the action chunk.
    """
    chain = [noise[:, 0]]
    for step in range(schedule.num_steps):
        x = chain[-1]
        v = velocity(x, step)
        following = x - schedule.dt * v
        if schedule.is_stochastic:
            mean = transition_mean(x, v, step, schedule)
            drawn = mean + schedule.stds[step] * noise[:, step + 1]
            here = is_noisy
            if noisy_steps is not None:
                here = is_noisy & (noisy_steps == step)[:, None, None]
            following = torch.where(here, drawn, following)
        chain.append(following)
    return torch.stack(chain, dim=1)


def branches(guidance: float) -> tuple[bool, ...]:
    """Return which branches guidance mixes: False is the unconditional one, True the conditional one."""
    return (guidance == 1.0,) if guidance in (0.0, 1.0) else (False, True)


def guided(velocity: Callable[[bool], Tensor], guidance: float) -> Tensor:
    """Return ``v_u + guidance * (v_c - v_u)`` of classifier-free guidance.

    Args:
        velocity: is_conditional -> velocity; called only for the branches that matter.
        guidance: 1 is the conditional branch only, 0 the unconditional one.
    """
    found = [velocity(branch) for branch in branches(guidance)]
    if len(found) == 1:
        return found[0]
    unconditional, conditional = found
    return unconditional + guidance * (conditional - unconditional)
