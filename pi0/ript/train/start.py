"""Where a trainer starts: at the beginning of a run, or where a checkpoint left it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from pi0.ript.algo.selection import MasteredStates
from pi0.ript.config.schema import TrainConfig
from pi0.ript.train.checkpoint import TrainingState
from pi0.ript.train.progression import Progression, Stopwatch
from pi0.ript.train.regression_guard import RegressionGuard


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a trainer goes on with besides policy, optimizer and objective.

    Attributes:
        mastered: Initial states that need no practice for now.
        guard: Success rates so far.
        progression: Counters of the run.
        stopwatch: Seconds of the run by stage.
        position: Initial states taken so far.
        acting: Earlier weights that act in the next step; empty where the policy's own do.
    """

    mastered: MasteredStates
    guard: RegressionGuard
    progression: Progression
    stopwatch: Stopwatch
    position: int = 0
    acting: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    @classmethod
    def of_new_run(cls, config: TrainConfig) -> "Start":
        """Return the start of a run that has done nothing yet."""
        return cls(
            mastered=MasteredStates(config.algo.rollout_skip_threshold),
            guard=RegressionGuard(config.training.regression_guard),
            progression=Progression(),
            stopwatch=Stopwatch(),
        )

    @classmethod
    def restored(cls, config: TrainConfig, state: TrainingState) -> "Start":
        """Return the start stored in a checkpoint.

        Raises:
            ValueError: A counter is missing or makes no sense.
        """
        return cls(
            mastered=MasteredStates.restored(config.algo.rollout_skip_threshold, state.counters),
            guard=RegressionGuard.restored(config.training.regression_guard, state.counters),
            progression=Progression.restored(state.step, state.counters),
            stopwatch=Stopwatch.restored(state.counters),
            position=state.sampler_position,
            acting=state.acting,
        )
