"""What a trainer is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pi0.policy import Pi0Policy
from pi0.ript.algo.objective import Objective
from pi0.ript.algo.selection import MasteredStates
from pi0.ript.env.runner import EnvRunner
from pi0.ript.interfaces import Progress, Ranks, Reporter
from pi0.ript.report.episode_log import EpisodeLog
from pi0.ript.report.video import FilmWriter
from pi0.ript.train.initial_states import InitialStateSampler
from pi0.ript.train.memory_watch import MemoryWatch
from pi0.ript.train.practice import Collect, Practice
from pi0.ript.train.regression_guard import RegressionGuard
from pi0.ript.train.update import Engine


@dataclass(frozen=True, kw_only=True)
class TrainerParts:
    """What ``build.py`` puts together for a trainer."""

    policy: Pi0Policy
    runner: EnvRunner
    engine: Engine
    ranks: Ranks
    objective: Objective
    mastered: MasteredStates
    guard: RegressionGuard
    memory: MemoryWatch
    states: InitialStateSampler
    practice: Callable[[Collect], Practice]
    tasks: tuple[tuple[str, int], ...]
    reporter: Reporter
    episode_log: EpisodeLog | None  # of rank 0
    practice_films: FilmWriter
    progress: Progress
    run_dir: Path
    config_hash: str
