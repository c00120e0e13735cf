"""Supervised fine-tuning: flow matching on demonstrations. It made the embedded policy."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pi0.card import PolicyCard
from pi0.codec import raw_state
from pi0.norm_stats import NormStats
from pi0.policy import Pi0Policy
from pi0.records import Observation
from pi0.ript.datasets.demonstrations import Demonstrations
from pi0.ript.seeding import derive_seed

logger = logging.getLogger(__name__)

# pi0 draws its training times from Beta(1.5, 1), scaled away from exactly 0: most weight near noise.
TIME_ALPHA, TIME_BETA = 1.5, 1.0
TIME_SCALE, TIME_OFFSET = 0.999, 0.001
MIN_STD = 1e-2


@dataclass(frozen=True, kw_only=True)
class SftSettings:
    """How the policy is fine-tuned. The defaults made the embedded policy.

    Attributes:
        num_steps: Optimizer steps.
        frames_per_step: Frames per optimizer step, drawn with replacement.
        draws_per_frame: Noise levels per frame; they share the frame's prefix.
        task_weights: Relative share of frames per task, in the order of the demonstrations; empty = equal.
            The default holds the easy tasks back, so that all four leave room for reinforcement learning.
        lr: Peak learning rate of AdamW.
        warmup_steps: Steps of linear warm-up; then a cosine falls to a tenth of the peak.
        weight_decay: AdamW's.
        grad_norm_clip: Gradient norm bound.
        seed: Seeds weights, frames and noise.
    """

    num_steps: int = 270
    frames_per_step: int = 64
    draws_per_frame: int = 4
    task_weights: tuple[float, ...] = (0.04, 1.1, 0.03, 1.8)
    lr: float = 1.0e-3
    warmup_steps: int = 50
    weight_decay: float = 0.01
    grad_norm_clip: float = 1.0
    seed: int = 0


def demonstration_stats(demos: list[Demonstrations], card: PolicyCard) -> NormStats:
    """Return mean and std of states and actions over all frames, every task with the same weight."""
    state_mean, state_std = _balanced([raw_state(d.proprio, card.state_encoding) for d in demos])
    actions_mean, actions_std = _balanced(
        [d.actions.reshape(-1, d.actions.shape[-1]) for d in demos]
    )
    return NormStats(
        state={"mean": state_mean, "std": state_std},
        actions={"mean": actions_mean, "std": actions_std},
    )


def _balanced(
    parts: Sequence[NDArray[np.floating]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean = np.mean([part.mean(0, dtype=np.float64) for part in parts], axis=0)
    variance = np.mean([((part - mean) ** 2).mean(0) for part in parts], axis=0)
    # A nearly constant number would be blown up to unit size by its own tiny std.
    return mean, np.maximum(np.sqrt(variance), MIN_STD)


@dataclass(frozen=True)
class _Frames:
    observations: list[Observation]
    tasks: list[str]
    actions: Tensor
    probabilities: NDArray[np.float64]

    @classmethod
    def of(
        cls, demos: list[Demonstrations], policy: Pi0Policy, weights: tuple[float, ...]
    ) -> "_Frames":
        shares = np.array(weights or (1.0,) * len(demos))
        if len(shares) != len(demos):
            raise ValueError(
                f"task_weights has {len(shares)} numbers for {len(demos)} tasks; give one each"
            )
        per_frame = [np.full(len(d), s / len(d)) for d, s in zip(demos, shares, strict=True)]
        targets = [policy.codec.encode_actions(d.actions, d.proprio) for d in demos]
        return cls(
            observations=[
                Observation(images=images, proprio=proprio)
                for d in demos
                for images, proprio in zip(d.images, d.proprio, strict=True)
            ],
            tasks=[d.task for d in demos for _ in range(len(d))],
            actions=torch.from_numpy(np.concatenate(targets)).to(policy.device),
            probabilities=np.concatenate(per_frame) / shares.sum(),
        )


def learning_rate(step: int, settings: SftSettings) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine to a tenth."""
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(1, settings.num_steps - settings.warmup_steps)
    return settings.lr * (0.55 + 0.45 * float(np.cos(np.pi * progress)))


def draw_times(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw flow-matching times in (0, 1]; t = 1 is noise."""
    return (rng.beta(TIME_ALPHA, TIME_BETA, shape) * TIME_SCALE + TIME_OFFSET).astype(np.float32)


def fine_tune(
    policy: Pi0Policy, demos: list[Demonstrations], settings: SftSettings
) -> Iterator[tuple[int, float]]:
    """Train ``policy`` in place; yield (step, loss) after every optimizer step.

    The loss is flow matching's, mean over the chunk of ||v - (noise - actions)||^2 per number.
    """
    frames = _Frames.of(demos, policy, settings.task_weights)
    parameters = policy.trainable_parameters(expert_only=False)
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.lr, betas=(0.9, 0.95), weight_decay=settings.weight_decay
    )
    rng = np.random.Generator(np.random.Philox(derive_seed(settings.seed, "sft")))
    for step in range(settings.num_steps):
        optimizer.param_groups[0]["lr"] = learning_rate(step, settings)
        loss = _loss(policy, frames, rng, settings)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, settings.grad_norm_clip)
        optimizer.step()
        yield step, loss.item()


def _loss(
    policy: Pi0Policy, frames: _Frames, rng: np.random.Generator, settings: SftSettings
) -> Tensor:
    drawn = rng.choice(len(frames.tasks), settings.frames_per_step, p=frames.probabilities)
    inputs = policy.encode(
        [frames.observations[n] for n in drawn], [frames.tasks[n] for n in drawn]
    )
    actions = frames.actions[torch.from_numpy(drawn)]
    shape = (len(drawn), settings.draws_per_frame)
    noise = rng.standard_normal((*shape, *actions.shape[1:]), dtype=np.float32)
    times = draw_times(rng, shape)
    losses = policy.flow_matching_loss(
        policy.prefix(inputs), inputs, actions, torch.from_numpy(noise), torch.from_numpy(times)
    )
    return losses.mean()


class ProgressLog:
    """Logs every few seconds how far fine-tuning is."""

    def __init__(self, num_steps: int, every_s: float = 10.0) -> None:
        self._num_steps = num_steps
        self._every_s = every_s
        self._start = self._last = time.monotonic()

    def __call__(self, step: int, loss: float) -> None:
        """Log rate and time left if it is time to."""
        now = time.monotonic()
        if now - self._last < self._every_s and step + 1 < self._num_steps:
            return
        self._last = now
        rate = (step + 1) / (now - self._start)
        left_s = (self._num_steps - step - 1) / rate
        logger.info(
            "step %d/%d  loss %.4f  %.1f steps/s  %.0f s left",
            step + 1,
            self._num_steps,
            loss,
            rate,
            left_s,
        )
