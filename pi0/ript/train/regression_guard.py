"""Watch success rates fall, and go back to the weights and the optimizer of the best checkpoint of the run."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch

from pi0.formats.folder import Choices, read_folder
from pi0.policy import Pi0Policy
from pi0.ript.algo.objective import Objective
from pi0.ript.config.sections import Measure, RegressionGuardConfig
from pi0.ript.engine.engine import Engine
from pi0.ript.learner.critic import Critic
from pi0.ript.train.checkpoints.folder import POLICY_FOLDER, load_training_state

Verdict = Literal["", "best", "regressed"]
_PREFIX = "guard_"

logger = logging.getLogger(__name__)


class RegressionError(ValueError):
    """Success fell too far below its best; one line with rates and the best checkpoint."""


class RegressionGuard:
    """Compares every success rate with the best one before it; resumable from plain numbers.

    Args:
        config: How far, how often; off where ``drop`` is None.
        best: The best rate so far; -1 before the first.
        best_step: Its step.
        num_below: Rates in a row that lay ``drop`` or more below the best.
        last_step: Step of the last rate; a rate of it or an earlier step counts no second time.
    """

    def __init__(
        self,
        config: RegressionGuardConfig,
        *,
        best: float = -1.0,
        best_step: int = 0,
        num_below: int = 0,
        last_step: int = -1,
    ) -> None:
        self._config = config
        self.best = best
        self.best_step = best_step
        self._num_below = num_below
        self._last_step = last_step

    @property
    def protected_step(self) -> int | None:
        """Return the step whose checkpoint must stay; None while there is none to go back to."""
        has_best = self._config.drop is not None and self.best >= 0
        return self.best_step if has_best and self._config.measure == "held_out" else None

    def add(self, measure: Measure, step: int, rate: float) -> Verdict:
        """Take a success rate of a step, a share in [0, 1]; return what it means."""
        if self._config.drop is None or measure != self._config.measure or step <= self._last_step:
            return ""
        self._last_step = step
        if rate > self.best:
            self.best, self.best_step, self._num_below = rate, step, 0
            return "best"
        is_below = rate <= self.best - self._config.drop
        self._num_below = self._num_below + 1 if is_below else 0
        if self._num_below < self._config.patience:
            return ""
        self._num_below = 0
        return "regressed"

    def stop_or_warn(self, step: int, rate: float) -> None:
        """Say that success has fallen to ``rate``.

        Raises:
            RegressionError: That ends the run.
        """
        config = self._config
        text = (
            f"{config.measure} success fell from {self.best:.1%} after step {self.best_step} to "
            f"{rate:.1%} after step {step}, {config.patience} times {config.drop:.1%} or more below "
            "the best"
        )
        if config.action == "stop":
            raise RegressionError(f"{text}; training.regression_guard ends the run")
        logger.warning("%s; putting back the policy of step %d", text, self.best_step)

    def counters(self) -> dict[str, int | float]:
        """Return the state as plain numbers for a checkpoint; empty where the guard is off."""
        if self._config.drop is None:
            return {}
        return {
            f"{_PREFIX}best": self.best,
            f"{_PREFIX}best_step": self.best_step,
            f"{_PREFIX}num_below": self._num_below,
            f"{_PREFIX}last_step": self._last_step,
        }

    @classmethod
    def restored(
        cls, config: RegressionGuardConfig, counters: Mapping[str, int | float]
    ) -> "RegressionGuard":
        """Return the guard stored in a checkpoint."""
        stored = {k.removeprefix(_PREFIX): v for k, v in counters.items() if k.startswith(_PREFIX)}
        names = ("best", "best_step", "num_below", "last_step")
        if config.drop is None or not stored:
            return cls(config)
        if sorted(stored) != sorted(names):
            raise ValueError(
                f"the checkpoint holds {sorted(stored)} of the guard, expected {names}"
            )
        return cls(
            config,
            best=float(stored["best"]),
            best_step=int(stored["best_step"]),
            num_below=int(stored["num_below"]),
            last_step=int(stored["last_step"]),
        )


def roll_back(
    checkpoint: Path,
    policy: Pi0Policy,
    engine: Engine,
    objective: Objective,
    critic: Critic | None = None,
) -> None:
    """Put policy, optimizer, objective and critic where ``checkpoint`` has them.

    Raises:
        ValueError: The checkpoint is damaged.
    """
    state = load_training_state(checkpoint)
    stored = read_folder(checkpoint / POLICY_FOLDER, Choices()).tensors
    with torch.no_grad():
        # Weights under adapters are not trained and have other names; the engine holds the adapters.
        for name, parameter in policy.network.core.named_parameters():
            if parameter.requires_grad and name in stored:
                parameter.copy_(stored[name].read())
    engine.load_state(state.engine)
    objective.load_state(dict(state.objective))
    if critic is not None:
        critic.load_state(state.critic)
