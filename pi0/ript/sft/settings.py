"""How a policy is fine-tuned on demonstrations."""

from dataclasses import dataclass

import numpy as np

from pi0.ript.config.base import require

AUGMENTATIONS = ("none", "openpi")


@dataclass(frozen=True, kw_only=True)
class SftSettings:
    """How a policy is fine-tuned. The defaults are those of a new tiny policy; ``FINE_TUNING`` has those of ``--policy``.

    Attributes:
        num_steps: Optimizer steps.
        frames_per_step: Frames per optimizer step, of all ranks together, drawn with replacement.
        draws_per_frame: Noise levels per frame; they share the frame's prefix.
        micro_batch: Frames of a rank that are computed at once; 0 takes all of them. Less memory, the same step.
        task_weights: Relative share of frames per task, in the order of the demonstrations; empty = equal.
        lr: Peak learning rate of AdamW.
        warmup_steps: Steps of linear warm-up; then a cosine falls to a tenth of the peak.
        decay_steps: Step at which the cosine has fallen to a tenth, which stays; 0 takes ``num_steps``.
        weight_decay: AdamW's.
        grad_norm_clip: Gradient norm bound.
        held_out_every: Steps between measurements of the loss on held-out episodes, if there are any.
        save_every: Steps between checkpoints; 0 leaves one at the end, and when the program is stopped.
        keep_checkpoints: Newest checkpoints that are kept.
        ema_decay: What the running mean of trained weights keeps of itself in a step, in [0, 1); saved policies and the held-out
            loss are those of the mean. 0 takes no mean.
        augment: How training images are changed at random: none, or as openpi does (crop, turn, colors).
        seed: Seeds weights, frames and noise.
    """

    num_steps: int = 1800
    frames_per_step: int = 64
    draws_per_frame: int = 4
    micro_batch: int = 0
    task_weights: tuple[float, ...] = ()
    lr: float = 1.0e-3
    warmup_steps: int = 50
    decay_steps: int = 0
    weight_decay: float = 0.01
    grad_norm_clip: float = 1.0
    held_out_every: int = 100
    save_every: int = 0
    keep_checkpoints: int = 2
    ema_decay: float = 0.0
    augment: str = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "num_steps",
            "frames_per_step",
            "draws_per_frame",
            "held_out_every",
            "keep_checkpoints",
        ):
            require(getattr(self, name) >= 1, f"--{name} must be >= 1, got {getattr(self, name)}")
        for name in (
            "micro_batch",
            "warmup_steps",
            "decay_steps",
            "weight_decay",
            "save_every",
            "seed",
        ):
            require(getattr(self, name) >= 0, f"--{name} must be >= 0, got {getattr(self, name)}")
        for name in ("lr", "grad_norm_clip"):
            require(getattr(self, name) > 0, f"--{name} must be > 0, got {getattr(self, name)}")
        require(0 <= self.ema_decay < 1, f"--ema_decay must be in [0, 1), got {self.ema_decay}")
        require(
            self.augment in AUGMENTATIONS,
            f"--augment must be {' or '.join(AUGMENTATIONS)}, got {self.augment!r}",
        )
        is_share = all(np.isfinite(w) and w >= 0 for w in self.task_weights)
        require(
            is_share and (sum(self.task_weights) > 0 or not self.task_weights),
            f"--task_weights must be numbers >= 0, one of them > 0, got {self.task_weights}",
        )


FINE_TUNING = SftSettings(
    num_steps=30_000,
    frames_per_step=32,
    draws_per_frame=1,
    lr=2.5e-5,
    warmup_steps=1_000,
    weight_decay=1e-10,
    held_out_every=1_000,
    save_every=1_000,
    ema_decay=0.99,
    augment="openpi",
)
"""openpi's recipe, for weights that know something already."""


def learning_rate(step: int, settings: SftSettings) -> float:
    """Return the learning rate of a step, counted from 0: linear warm-up, then a cosine to a tenth.

    As openpi's cosine schedule, whose end need not be that of the run.
    """
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    decay_steps = settings.decay_steps or settings.num_steps
    progress = (step - settings.warmup_steps) / max(1, decay_steps - settings.warmup_steps)
    return settings.lr * (0.55 + 0.45 * float(np.cos(np.pi * min(1.0, progress))))
