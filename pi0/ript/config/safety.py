"""Settings that end a run before it does harm."""

from dataclasses import dataclass
from typing import Literal

from pi0.ript.config.checks import require

Measure = Literal["held_out", "practice"]


@dataclass(frozen=True, kw_only=True)
class RegressionGuardConfig:
    """Notice that practice makes the policy worse; off unless ``drop`` is given.

    Attributes:
        drop: How far a success rate must lie below the best one before it to count, in (0, 1]; null switches
            the guard off.
        patience: How many rates in a row.
        measure: ``held_out`` compares the evaluations of ``evaluation.every``, ``practice`` the success of
            every step.
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
            "practice is known only after the weights have changed",
        )
