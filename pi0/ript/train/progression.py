"""Where a run stands: its counters and clocks outside simulators, policy and optimizer, and how long it still takes."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

from pi0.ript.config.schema import TrainConfig, TrainingConfig
from pi0.ript.interfaces import Progress
from pi0.ript.train.rollouts import Rollouts
from pi0.ript.types import Episode

STEP_STAGES = ("collect", "update", "checkpoint")

TARGET_WINDOW = 3
SECONDS = "seconds_"


def seconds_left(
    seconds: Mapping[str, float], *, step: int, num_steps: int, evaluates_every: int
) -> float | None:
    """Return the seconds that a run still takes if nothing ends it early; None before its first step.

    Args:
        seconds: Spent so far by stage.
        step: Finished steps.
        num_steps: Steps of the whole run.
        evaluates_every: Steps between evaluations; the first and the last policy are always evaluated.
    """
    if step == 0:
        return None
    per_step = sum(seconds.get(stage, 0.0) for stage in STEP_STAGES) / step
    evaluated = {0, num_steps, *range(0, num_steps, evaluates_every or num_steps)}
    num_done = sum(n < step for n in evaluated)
    per_evaluation = seconds.get("evaluate", 0.0) / num_done
    return (num_steps - step) * per_step + (len(evaluated) - num_done) * per_evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Progression:
    """The counters of a run.

    Attributes:
        training: When the run ends.
        step: Steps finished.
        num_episodes: Rollouts completed.
        num_env_steps: Control steps of them.
        recent_success: Success of the last ``TARGET_WINDOW`` steps.
    """

    training: TrainingConfig
    step: int = 0
    num_episodes: int = 0
    num_env_steps: int = 0
    recent_success: tuple[float, ...] = ()

    def counters(self) -> dict[str, int | float]:
        """Return the counters as plain numbers for a checkpoint."""
        recent = {f"recent_success_{n}": rate for n, rate in enumerate(self.recent_success)}
        return {"num_episodes": self.num_episodes, "num_env_steps": self.num_env_steps, **recent}

    @classmethod
    def restored(
        cls, training: TrainingConfig, step: int, counters: Mapping[str, int | float]
    ) -> "Progression":
        """Return the progression stored in a checkpoint.

        Raises:
            ValueError: A counter is missing.
        """
        for name in ("num_episodes", "num_env_steps"):
            if name not in counters:
                raise ValueError(f"the checkpoint lacks the counter {name}; use another one")
        names = sorted(name for name in counters if name.startswith("recent_success_"))
        return cls(
            training=training,
            step=step,
            num_episodes=int(counters["num_episodes"]),
            num_env_steps=int(counters["num_env_steps"]),
            recent_success=tuple(float(counters[name]) for name in names),
        )

    def after(self, rollouts: Rollouts) -> "Progression":
        """Return the counters after the step with these rollouts."""
        return replace(
            self,
            step=self.step + 1,
            num_episodes=self.num_episodes + rollouts.num_episodes,
            num_env_steps=self.num_env_steps + rollouts.num_steps,
            recent_success=(*self.recent_success, rollouts.success_rate)[-TARGET_WINDOW:],
        )

    @property
    def is_done(self) -> bool:
        """Return whether the last step or the target has been reached."""
        if self.step >= self.training.num_train_steps:
            return True
        recent, target = self.recent_success, self.training.target_success
        has_enough = len(recent) == TARGET_WINDOW and target is not None
        return has_enough and sum(recent) / TARGET_WINDOW >= (target or 0.0)


class Stopwatch:
    """Seconds per stage."""

    def __init__(self, seconds: Mapping[str, float] | None = None) -> None:
        self.seconds: dict[str, float] = dict(seconds or {})

    def counters(self) -> dict[str, int | float]:
        """Return the seconds as plain numbers for a checkpoint."""
        return {f"{SECONDS}{stage}": seconds for stage, seconds in self.seconds.items()}

    @classmethod
    def restored(cls, counters: Mapping[str, int | float]) -> "Stopwatch":
        """Return the stopwatch stored in a checkpoint."""
        return cls(
            {k.removeprefix(SECONDS): v for k, v in counters.items() if k.startswith(SECONDS)}
        )

    def add(self, other: "Stopwatch") -> None:
        """Add what another one has measured."""
        for stage, seconds in other.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to ``stage``."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - start


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedStep:
    """Where a run stands after a step; collecting the next one goes on from here.

    Attributes:
        step: Steps finished.
        sampler_position: Initial states taken so far.
        counters: Running totals, plain numbers by name.
    """

    step: int
    sampler_position: int
    counters: Mapping[str, int | float]


class Stages:
    """Opens the stages of one run.

    Args:
        config: How many steps there will be and how often they are evaluated.
        progress: Shows the stages.
        stopwatch: What the finished steps took.
        num_finished: How many there are; the trainer counts on.
    """

    def __init__(
        self, config: TrainConfig, progress: Progress, stopwatch: Stopwatch, num_finished: int
    ) -> None:
        self._num_steps = config.training.num_train_steps
        self._evaluates_every = config.evaluation.every
        self._progress = progress
        self._stopwatch = stopwatch
        self.num_finished = num_finished

    def of_step(
        self, step: int, name: str, num_episodes: int = 0
    ) -> AbstractContextManager[Callable[[Episode], None]]:
        """Open a stage of a step; call the result with every finished episode."""
        left = seconds_left(
            self._stopwatch.seconds,
            step=self.num_finished,
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
