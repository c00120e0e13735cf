"""The stages of a run as they are shown: what goes on, of which step, and how long the run still takes."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from pi0.ript.config.schema import TrainConfig
from pi0.ript.interfaces import Progress
from pi0.ript.train.progression import Stopwatch
from pi0.ript.train.time_left import seconds_left
from pi0.ript.types import Episode


class Stages:
    """Opens the stages of one run.

    Args:
        config: How many steps there will be and how often they are evaluated.
        progress: Shows the stages.
        stopwatch: What the finished steps took.
        num_finished: Returns how many steps are finished.
    """

    def __init__(
        self,
        config: TrainConfig,
        progress: Progress,
        stopwatch: Stopwatch,
        num_finished: Callable[[], int],
    ) -> None:
        self._num_steps = config.training.num_train_steps
        self._evaluates_every = config.evaluation.every
        self._progress = progress
        self._stopwatch = stopwatch
        self._num_finished = num_finished

    def of_step(
        self, step: int, name: str, num_episodes: int = 0
    ) -> AbstractContextManager[Callable[[Episode], None]]:
        """Open a stage of a step; call the result with every finished episode."""
        left = seconds_left(
            self._stopwatch.seconds,
            step=self._num_finished(),
            num_steps=self._num_steps,
            evaluates_every=self._evaluates_every,
        )
        name = f"step {step}/{self._num_steps} {name}"
        return self._progress.stage(name, num_episodes, left)

    def of_evaluation(
        self, step: int, num_episodes: int
    ) -> AbstractContextManager[Callable[[Episode], None]]:
        """Open the evaluation of the policy of a step; call the result with every finished episode."""
        return self._progress.stage(f"evaluate after step {step}", num_episodes)
