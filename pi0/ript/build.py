"""TrainConfig -> a trainer and its parts; runner, policy and learner have files of their own."""

import importlib
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pi0.formats.base import Base
from pi0.policy import Pi0Policy
from pi0.records import Sampling
from pi0.ript.algo.objective import Objective
from pi0.ript.build_learner import build_critic, build_engine, build_objective
from pi0.ript.build_policy import adopt_denoise_steps
from pi0.ript.build_runner import resolve_tasks
from pi0.ript.config.load import to_plain
from pi0.ript.config.same_run import config_hash
from pi0.ript.config.schema import TrainConfig, VideoConfig
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.env.initial_states import make_initial_state, split
from pi0.ript.env.runner import EnvRunner
from pi0.ript.env.suites import step_limit
from pi0.ript.evaluation.episodes import protocol_text, requests_of_run
from pi0.ript.interfaces import Ranks, Reporter
from pi0.ript.report.action_log import ActionLog, actions_name
from pi0.ript.report.console import make_progress
from pi0.ript.report.episode_log import EPISODES_NAME, EpisodeLog
from pi0.ript.report.jsonl import METRICS_NAME, JsonlReporter
from pi0.ript.report.reporters import LineReporter, Reporters, TensorBoardReporter
from pi0.ript.report.video import VideoWriter
from pi0.ript.train.async_collector import AsyncCollector
from pi0.ript.train.collector import Collector
from pi0.ript.train.evaluator import Evaluator
from pi0.ript.train.initial_states import InitialStateSampler
from pi0.ript.train.memory_watch import MemoryWatch
from pi0.ript.train.parts import Start, TrainerParts, resume
from pi0.ript.train.progression import Stages
from pi0.ript.train.trainer import Trainer


def build_states(
    config: TrainConfig, tasks: tuple[tuple[str, int], ...], cursor: int = 0
) -> InitialStateSampler:
    """Return the order in which rollouts begin in the training initial states of all tasks."""
    train, _ = split(config.task.num_held_out_states)
    candidates = [
        make_initial_state(suite, task_id, index, config.task.shared_fixture_seed or 0)
        for suite, task_id in tasks
        for index in train
    ]
    return InitialStateSampler(candidates, config.task.fixtures, config.training.seed, cursor)


def build_trainer(
    config: TrainConfig,
    policy: Pi0Policy,
    runner: EnvRunner,
    run_dir: Path,
    checkpoint: Path | None,
    console: Console,
    objective: Objective | None = None,
    ranks: Ranks = SINGLE_PROCESS,
    base: Base | None = None,
) -> Trainer:
    """Return a trainer, at its beginning or where ``checkpoint`` left it.

    ``objective`` is a learning rule of one's own; None takes the one that ``algo.objective`` names.
    ``base`` is the result of ``find_base``; without it checkpoints are whole policies.
    """
    tasks = resolve_tasks(config)
    adopt_denoise_steps(policy, config.policy.denoise_steps)
    engine = build_engine(config, policy, ranks)
    if objective is not None and (config.training.overlap or config.algo.replay_steps):
        key, needed, off = (
            ("training.overlap", "the objective flow_sde", "false")
            if config.training.overlap
            else ("algo.replay_steps", "the objective flow_sde or bc", "0")
        )
        raise ValueError(
            f"{key} needs {needed}, got a learning rule of one's own; set {key} to {off}"
        )
    objective = objective or build_objective(config.algo)
    critic = build_critic(config, policy)
    start = (
        Start.of_new_run(config)
        if checkpoint is None
        else resume(config, run_dir, checkpoint, engine, objective, critic, ranks)
    )
    progress, is_writer = start.progression, ranks.rank == 0
    shared = _Shared(
        runner=runner,
        ranks=ranks,
        memory=build_memory_watch(config, runner),
        stages=Stages(config, make_progress(console), start.stopwatch, progress.step),
        video=config.video,
        run_dir=run_dir,
    )
    videos = build_rollout_videos(config, run_dir)
    parts = TrainerParts(
        policy=policy,
        base=base,
        engine=engine,
        ranks=ranks,
        objective=objective,
        critic=critic,
        replay=start.replay,
        guard=start.guard,
        memory=shared.memory,
        stages=shared.stages,
        stopwatch=start.stopwatch,
        collector=build_collector(config, policy, tasks, start, videos, shared),
        evaluator=build_evaluator(config, policy, tasks, shared),
        reporter=build_reporter(config, run_dir, progress.step) if is_writer else Reporters([]),
        episode_log=EpisodeLog(run_dir / EPISODES_NAME, last_step=progress.step)
        if is_writer
        else None,
        rollout_videos=videos,
        run_dir=run_dir,
        config_hash=config_hash(config),
    )
    return Trainer(config, parts, progress)


@dataclass(frozen=True, kw_only=True)
class _Shared:
    """What collector and evaluator have in common."""

    runner: EnvRunner
    ranks: Ranks
    memory: MemoryWatch
    stages: Stages
    video: VideoConfig
    run_dir: Path


def build_collector(
    config: TrainConfig,
    policy: Pi0Policy,
    tasks: tuple[tuple[str, int], ...],
    start: Start,
    videos: VideoWriter,
    shared: _Shared,
) -> Collector | AsyncCollector:
    """Return what collects the rollouts of a step: in turn with the updates, or one step ahead."""
    limit = config.task.max_episode_length
    collector = Collector(
        policy=policy,
        algo=config.algo,
        seed=config.training.seed,
        denoise_steps=config.policy.denoise_steps,
        max_steps=lambda state: step_limit(state.suite, policy.protocol, limit),
        states=build_states(config, tasks, start.cursor),
        selection=start.selection,
        writer=videos,
        actions=ActionLog(
            shared.run_dir / actions_name(shared.ranks.rank),
            config.rollouts.save,
            config.task.num_steps_wait,
            last_step=start.progression.step,
        ),
        **vars(shared),
    )
    if not config.training.overlap:
        return collector
    return AsyncCollector(policy, collector, start.behavior)


def build_evaluator(
    config: TrainConfig,
    policy: Pi0Policy,
    tasks: tuple[tuple[str, int], ...],
    shared: _Shared,
) -> Evaluator:
    """Return what measures the policy on the held-out episodes."""
    guidance = config.algo.cfg.evaluation_guidance
    requests = requests_of_run(config, tasks, policy.protocol)
    return Evaluator(
        policy=policy,
        requests=requests,
        protocol=protocol_text(config, requests),
        sampling=Sampling(num_steps=config.policy.denoise_steps, guidance=guidance),
        settling_steps=config.task.num_steps_wait,
        **vars(shared),
    )


def build_memory_watch(config: TrainConfig, runner: EnvRunner) -> MemoryWatch:
    """Return what watches the memory of this process and its simulators."""
    return MemoryWatch(
        config.training.memory_limit_gb,
        worker_pids=lambda: runner.worker_pids,
        drop_scenes=runner.drop_scenes,
    )


def build_rollout_videos(config: TrainConfig, run_dir: Path) -> VideoWriter:
    """Return the writer of rollout videos; those on disk from before a resume count as its own."""
    earlier = list(config.video.folder(run_dir).glob("practice_*/*.mp4"))
    return VideoWriter.within(config.video, earlier)


def build_reporter(config: TrainConfig, run_dir: Path, last_step: int) -> Reporter:
    """Return everything that records the metrics of a step."""
    reporters: list[Reporter] = [
        JsonlReporter(run_dir / METRICS_NAME, last_step=last_step),
        LineReporter(),
    ]
    if config.logging.tensorboard:
        reporters.append(TensorBoardReporter(run_dir / "tensorboard", last_step=last_step))
    if config.logging.wandb:
        # Imported here because the package is optional; whether it is there was checked on loading.
        module = importlib.import_module("pi0.ript.report.wandb_log")
        reporters.append(module.WandbReporter(run_dir, config.logging, settings=to_plain(config)))
    return Reporters(reporters)
