"""Sections inside sections: noise, NFT, guidance and value baseline of ``algo``; optimizer and guard of ``training``."""

from dataclasses import dataclass
from typing import Literal

from pi0.ript.config.base import require

DEFAULT_NOISE_SCALE = 0.5

Measure = Literal["held_out", "practice"]


@dataclass(frozen=True, kw_only=True)
class NoiseConfig:
    """How much noise rollouts explore with: give ``scale``, ``final_std`` or neither.

    ``cfg`` and ``bc`` imitate what was executed, noise included; they explore by the initial noise of every
    action chunk instead.

    Attributes:
        scale: The letter a of Flow-SDE. With neither key it is 0.5 for ``flow_sde`` and ``nft``, and
            final_std is 0.03 for ``cfg`` and ``bc``.
        final_std: Standard deviation of the last denoise step, in normalized action units; in (0, 1]. It
            is what survives in the executed action, whatever the number of denoise steps.
        anneal_to: The noise falls linearly to this share of itself; 1 keeps it fixed.
        anneal_steps: Training steps over which it falls.
    """

    scale: float | None = None
    final_std: float | None = None
    anneal_to: float = 1.0
    anneal_steps: int = 0

    def __post_init__(self) -> None:
        require(
            self.scale is None or self.final_std is None,
            f"algo.noise: give scale or final_std, got both ({self.scale} and {self.final_std})",
        )
        require(
            self.scale is None or self.scale > 0, f"algo.noise.scale must be > 0, got {self.scale}"
        )
        require(
            self.final_std is None or 0 < self.final_std <= 1,
            f"algo.noise.final_std must be in (0, 1], got {self.final_std}",
        )
        require(
            0 < self.anneal_to <= 1, f"algo.noise.anneal_to must be in (0, 1], got {self.anneal_to}"
        )
        require(
            self.anneal_steps >= 0,
            f"algo.noise.anneal_steps must be >= 0, got {self.anneal_steps}",
        )
        require(
            (self.anneal_to < 1) == (self.anneal_steps > 0),
            "algo.noise: annealing needs anneal_to < 1 and anneal_steps >= 1, "
            f"got {self.anneal_to} and {self.anneal_steps}",
        )

    def scale_at(self, step: int, denoise_steps: int) -> float:
        """Return the letter a for a training step (from 1) and S denoise steps.

        The last of S steps has standard deviation ``a * d / sqrt(1 - d)`` with d = 1 / S.
        """
        scale = DEFAULT_NOISE_SCALE if self.scale is None else self.scale
        if self.final_std is not None:
            dt = 1.0 / denoise_steps
            scale = self.final_std * (1.0 - dt) ** 0.5 / dt
        if not self.anneal_steps:
            return scale
        progress = min(1.0, (step - 1) / self.anneal_steps)
        return scale * (1.0 - progress * (1.0 - self.anneal_to))


@dataclass(frozen=True, kw_only=True)
class NftConfig:
    """Centered DiffusionNFT.

    Attributes:
        beta: How far the two implicit policies stand from the frozen one.
        max_advantage: Advantages are clipped to this; it maps to optimality 1.
        max_drift: Bound of the root mean square distance of velocities from the frozen ones.
        ema: Share of the frozen policy that survives a training step; the rest is the current policy.
    """

    beta: float = 1.0
    max_advantage: float = 1.0
    max_drift: float = 0.5
    ema: float = 0.5

    def __post_init__(self) -> None:
        for name in ("beta", "max_advantage", "max_drift"):
            require(
                getattr(self, name) > 0, f"algo.nft.{name} must be > 0, got {getattr(self, name)}"
            )
        require(0 <= self.ema < 1, f"algo.nft.ema must be in [0, 1), got {self.ema}")


@dataclass(frozen=True, kw_only=True)
class CfgConfig:
    """Advantage-conditioned flow matching with classifier-free guidance.

    Attributes:
        uncond_weight: Weight of the unconditional branch, which learns from every rollout.
        guidance: Guidance of rollouts; 1 is the conditional branch, 0 the unconditional one.
        evaluation_guidance: Guidance of the evaluations of the run.
        windowing_mode: Which policy steps of an episode are learned from: ``all``, the ``last`` one, ``random``
            ones, or ``slide``: every ``window_stride``-th from the first.
        window_stride: Policy steps from one window to the next under ``slide``.
        max_windows_per_episode: Most policy steps of an episode under ``random`` and ``slide``; with 1, ``slide``
            is the first policy step alone.
    """

    uncond_weight: float = 0.1
    guidance: float = 1.0
    evaluation_guidance: float = 1.0
    windowing_mode: Literal["all", "last", "random", "slide"] = "all"
    window_stride: int = 10
    max_windows_per_episode: int = 1

    def __post_init__(self) -> None:
        for name in ("uncond_weight", "guidance", "evaluation_guidance"):
            require(
                getattr(self, name) >= 0, f"algo.cfg.{name} must be >= 0, got {getattr(self, name)}"
            )
        for name in ("window_stride", "max_windows_per_episode"):
            require(
                getattr(self, name) >= 1, f"algo.cfg.{name} must be >= 1, got {getattr(self, name)}"
            )


@dataclass(frozen=True, kw_only=True)
class ValueConfig:
    """The value baseline of ``algo.critic`` value.

    Attributes:
        baseline: ``siblings``: the leave-one-out advantage of an episode is spread over its policy steps by their
            generalized advantages (GAE); ``none``: these alone, standardized over the batch, as in PPO.
        weight: Under ``siblings``, how strongly it is spread; a factor of GAE above its mean over the episode.
        gamma: Discount per policy step.
        gae_lambda: 1 compares values with outcomes, 0 with the value of the next policy step.
        lr: Learning rate of the value head, which has an optimizer of its own.
        epochs: Passes of the value head over a batch, after its advantages were computed.
        warmup_batches: Batches from which only the value head learns with GAE; the policy learns from them
            as without a critic.
    """

    baseline: Literal["siblings", "none"] = "siblings"
    weight: float = 1.0
    gamma: float = 0.99
    gae_lambda: float = 0.95
    lr: float = 3.0e-4
    epochs: int = 4
    warmup_batches: int = 2

    def __post_init__(self) -> None:
        for name in ("weight", "lr"):
            self._check(name, getattr(self, name) > 0, "> 0")
        self._check("gamma", 0 < self.gamma <= 1, "in (0, 1]")
        self._check("gae_lambda", 0 <= self.gae_lambda <= 1, "in [0, 1]")
        self._check("epochs", self.epochs >= 1, ">= 1")
        self._check("warmup_batches", self.warmup_batches >= 0, ">= 0")
        require(
            self.baseline == "siblings" or self.weight == type(self).weight,
            f"algo.value.weight is {self.weight}, but algo.value.baseline none takes GAE as it is; "
            "remove it or set algo.value.baseline to siblings",
        )

    def _check(self, name: str, condition: bool, allowed: str) -> None:  # noqa: FBT001
        require(condition, f"algo.value.{name} must be {allowed}, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW beyond its learning rate (``algo.lr``).

    Attributes:
        weight_decay: Decoupled weight decay.
        beta1: Decay of the running mean of gradients.
        beta2: Decay of the running mean of squared gradients.
    """

    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.95

    def __post_init__(self) -> None:
        require(
            self.weight_decay >= 0,
            f"training.optimizer.weight_decay must be >= 0, got {self.weight_decay}",
        )
        for name in ("beta1", "beta2"):
            require(
                0 <= getattr(self, name) < 1,
                f"training.optimizer.{name} must be in [0, 1), got {getattr(self, name)}",
            )


@dataclass(frozen=True, kw_only=True)
class RegressionGuardConfig:
    """Notice that training makes the policy worse; off unless ``drop`` is given.

    Attributes:
        drop: How far a success rate must lie below the best one before it to count, in (0, 1]; null switches
            the guard off.
        patience: How many rates in a row.
        measure: ``held_out`` compares the evaluations of ``evaluation.every``, ``practice`` the success of the
            rollouts of every step.
        action: ``stop`` ends the run; ``roll_back`` goes on with the weights and the optimizer of the best
            evaluation and other rollouts.
    """

    drop: float | None = None
    patience: int = 3
    measure: Measure = "held_out"
    action: Literal["stop", "roll_back"] = "stop"

    def __post_init__(self) -> None:
        key = "training.regression_guard"
        require(
            self.drop is None or 0 < self.drop <= 1,
            f"{key}.drop must be in (0, 1] or null, got {self.drop}",
        )
        require(self.patience >= 1, f"{key}.patience must be >= 1, got {self.patience}")
        require(
            self.measure == "held_out" or self.action == "stop",
            f"{key}.action roll_back needs {key}.measure held_out, got {self.measure}: success in "
            "rollouts is known only after the weights have changed",
        )
