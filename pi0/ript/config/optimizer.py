"""Settings of the optimizer."""

from dataclasses import dataclass

from pi0.ript.config.checks import require


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
