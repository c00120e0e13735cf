"""What a trainer is made of, and where it starts: at the beginning of a run, or where a checkpoint left it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from pi0.formats.base import Base
from pi0.policy import Pi0Policy
from pi0.ript.algo.objective import Objective
from pi0.ript.algo.selection import StateSelection, state_selection
from pi0.ript.config.same_run import CHANGEABLE, is_same_run
from pi0.ript.config.schema import TrainConfig
from pi0.ript.engine.engine import Engine
from pi0.ript.evaluation.episodes import drop_evaluations_after
from pi0.ript.interfaces import Ranks, Reporter
from pi0.ript.learner.critic import Critic
from pi0.ript.learner.replay import Replay
from pi0.ript.report.episode_log import EpisodeLog
from pi0.ript.report.video import VideoWriter
from pi0.ript.train.async_collector import AsyncCollector
from pi0.ript.train.checkpoints.folder import load_training_state
from pi0.ript.train.checkpoints.replay_files import load_replay
from pi0.ript.train.checkpoints.state import TrainingState
from pi0.ript.train.collector import Collector
from pi0.ript.train.evaluator import Evaluator
from pi0.ript.train.memory_watch import MemoryWatch
from pi0.ript.train.progression import Progression, Stages, Stopwatch
from pi0.ript.train.regression_guard import RegressionGuard

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainerParts:
    """What ``build.py`` puts together for a trainer."""

    policy: Pi0Policy
    base: (
        Base | None
    )  # what the policy was when the run began; None if checkpoints are whole policies
    engine: Engine
    ranks: Ranks
    objective: Objective
    replay: Replay
    critic: Critic | None  # of algo.critic value
    guard: RegressionGuard
    memory: MemoryWatch
    stages: Stages
    stopwatch: Stopwatch
    collector: Collector | AsyncCollector
    evaluator: Evaluator
    reporter: Reporter
    episode_log: EpisodeLog | None  # of rank 0
    rollout_videos: VideoWriter
    run_dir: Path
    config_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a trainer goes on with besides policy, optimizer and objective.

    Attributes:
        selection: Which of the initial states that are dealt are tried.
        guard: Success rates so far.
        progression: Counters of the run.
        stopwatch: Seconds of the run by stage.
        replay: Samples of earlier steps that this rank learns from again.
        cursor: Initial states taken so far.
        behavior: Earlier weights that act in the next step; empty where the policy's own do.
    """

    selection: StateSelection
    guard: RegressionGuard
    progression: Progression
    stopwatch: Stopwatch
    replay: Replay
    cursor: int = 0
    behavior: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    @classmethod
    def of_new_run(cls, config: TrainConfig) -> "Start":
        """Return the start of a run that has done nothing yet."""
        return cls(
            selection=state_selection(config.algo, config.training.seed),
            guard=RegressionGuard(config.training.regression_guard),
            progression=Progression(training=config.training),
            stopwatch=Stopwatch(),
            replay=Replay(config.algo.replay_steps),
        )

    @classmethod
    def restored(cls, config: TrainConfig, state: TrainingState) -> "Start":
        """Return the start stored in a checkpoint.

        Raises:
            ValueError: A counter is missing or makes no sense.
        """
        selection = state_selection(config.algo, config.training.seed)
        selection.restore(state.counters)
        return cls(
            selection=selection,
            guard=RegressionGuard.restored(config.training.regression_guard, state.counters),
            progression=Progression.restored(config.training, state.step, state.counters),
            stopwatch=Stopwatch.restored(state.counters),
            replay=Replay(config.algo.replay_steps),
            cursor=state.sampler_position,
            behavior=state.acting,
        )


def resume(
    config: TrainConfig,
    run_dir: Path,
    checkpoint: Path,
    engine: Engine,
    objective: Objective,
    critic: Critic | None,
    ranks: Ranks,
) -> Start:
    """Put engine, objective and critic where a checkpoint has them; return the rest of what it holds.

    Raises:
        ValueError: It is damaged, or of a run with other settings.
    """
    state = load_training_state(checkpoint)
    if not is_same_run(state.config_hash, config):
        raise ValueError(
            f"--resume {run_dir}: the settings differ from those of the run; "
            f"only {', '.join(CHANGEABLE)} may change, start a new run for anything else"
        )
    engine.load_state(state.engine)
    objective.load_state(dict(state.objective))
    if critic is not None:
        critic.load_state(state.critic)
    if ranks.rank == 0:
        drop_evaluations_after(run_dir, state.step)
    start = Start.restored(config, state)
    if config.algo.replay_steps:
        start.replay.kept = load_replay(checkpoint, ranks)
    logger.info("resuming %s after step %d", run_dir, state.step)
    return start
