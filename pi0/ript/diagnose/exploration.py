"""How much of the noise of each denoise step survives in the actions that are executed.

Noise injected early is partly undone by the steps after it: a policy that is sure of its action pulls every
point back to it. What survives is what rollouts explore with.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pi0.card import ENV_ACTION_DIM
from pi0.policy import Pi0Policy
from pi0.records import Observation, Sampling
from pi0.ript.seeding import derive_seed
from pi0.sampler import make_schedule

GRIPPER = ENV_ACTION_DIM - 1
# Published recipes explore with 0.08 to 0.16 in normalized units: DPPO (0.1), ReinFlow (0.08 to 0.14) and
# pi_RL's Flow-Noise (0.08 to 0.16).
LEAST_STD, TARGET_STD, MOST_STD = 0.08, 0.12, 0.16
# Below this a step explores nothing: what it adds is erased by the steps after it.
ERASED = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class StepGain:
    """What becomes of the noise of one denoise step.

    Attributes:
        step: k, 0 is the first.
        injected: Standard deviation of the noise.
        surviving: Root mean square standard deviation it leaves in executed actions, normalized units.
        gripper_range: Mean distance between largest and smallest gripper action.
    """

    step: int
    injected: float
    surviving: float
    gripper_range: float

    @property
    def gain(self) -> float:
        """Return the share that survives."""
        return self.surviving / self.injected


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseGain:
    """What a probe found.

    Attributes:
        noise_scale: The letter a that was probed.
        steps: One entry per denoise step, with noise in that step only.
        all_steps: Standard deviation of executed actions with noise in every step.
        initial_noise: The same without injected noise, over draws of the initial noise.
    """

    noise_scale: float
    steps: tuple[StepGain, ...]
    all_steps: float
    initial_noise: float

    @property
    def erased_steps(self) -> list[int]:
        """Return the steps whose noise does not reach the action."""
        return [entry.step for entry in self.steps if entry.gain < ERASED]

    @property
    def recommended_final_std(self) -> float:
        """Return a standard deviation of the last step with which actions vary as in published recipes.

        What survives of all steps together grows with the noise scale, nearly in proportion.
        """
        injected = self.steps[-1].injected
        if LEAST_STD <= self.all_steps <= MOST_STD:
            return injected
        return min(1.0, injected * TARGET_STD / self.all_steps)


def measure_noise_gain(
    policy: Pi0Policy,
    observations: Sequence[Observation],
    tasks: Sequence[str],
    sampling: Sampling,
    num_draws: int,
    seed: int,
) -> NoiseGain:
    """Inject noise into one step at a time and watch the executed actions.

    Args:
        policy: What is probed.
        observations: B observations.
        tasks: B instructions.
        sampling: Steps and noise scale, > 0.
        num_draws: Draws per observation, >= 2; they share its initial noise.
        seed: Of all draws.
    """
    num_steps = sampling.num_steps
    schedule = make_schedule(num_steps, sampling.noise_scale)
    quiet = Sampling(num_steps=num_steps)
    spread: dict[int | str, list[Tensor]] = {}
    for sample, (observation, task) in enumerate(zip(observations, tasks, strict=True)):
        inputs = policy.encode([observation] * num_draws, [task] * num_draws)
        noise = _noise(policy, num_steps, num_draws, derive_seed(seed, "probe", sample))
        same_start = noise.clone()
        same_start[:, 0] = noise[:1, 0]
        for step in range(num_steps):
            only = torch.full((num_draws,), step)
            _add(spread, step, policy, policy.draw(inputs, same_start, sampling, only))
        _add(spread, "all", policy, policy.draw(inputs, same_start, sampling))
        _add(spread, "initial", policy, policy.draw(inputs, noise, quiet))
    steps = [
        StepGain(
            step=step,
            injected=schedule.stds[step],
            surviving=_rms_std(spread[step]),
            gripper_range=_mean_range(spread[step]),
        )
        for step in range(num_steps)
    ]
    return NoiseGain(
        noise_scale=sampling.noise_scale,
        steps=tuple(steps),
        all_steps=_rms_std(spread["all"]),
        initial_noise=_rms_std(spread["initial"]),
    )


def _noise(policy: Pi0Policy, num_steps: int, num_draws: int, seed: int) -> Tensor:
    shape = (num_draws, num_steps + 1, policy.card.horizon, policy.card.action_dim)
    rng = np.random.Generator(np.random.Philox(seed))
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def _add(
    spread: dict[int | str, list[Tensor]], name: int | str, policy: Pi0Policy, chains: Tensor
) -> None:
    """Add the executed part of the action chunks of one observation, [R, h, 7]."""
    executed = chains[:, -1, : policy.card.execute_steps, :ENV_ACTION_DIM]
    spread.setdefault(name, []).append(executed.double().cpu())


def _rms_std(chunks: list[Tensor]) -> float:
    return float(torch.stack(chunks).var(dim=1).mean().sqrt())


def _mean_range(chunks: list[Tensor]) -> float:
    gripper = torch.stack(chunks)[..., GRIPPER]
    return float((gripper.amax(dim=1) - gripper.amin(dim=1)).mean())
