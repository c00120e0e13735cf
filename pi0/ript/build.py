"""TrainConfig -> objects. The only place that chooses classes, all but the runner and what is below it.

The runner comes from ``create_env_runner`` of ``scripts/train_ript_pi0.py``, a published name; it chooses its own
simulators and schedule.
"""

import importlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from pi0.checkpoint import load_policy
from pi0.description import describe_policy, description_text
from pi0.policy import Pi0Policy
from pi0.ript.algo.bc import Cloning
from pi0.ript.algo.cfg import GuidedCloning
from pi0.ript.algo.flow_sde import FlowSde
from pi0.ript.algo.nft import Nft
from pi0.ript.algo.objective import Objective
from pi0.ript.config.load import to_plain
from pi0.ript.config.same_run import CHANGEABLE, config_hash, is_same_run
from pi0.ript.config.schema import AlgoConfig, TrainConfig
from pi0.ript.engine.ddp import DdpEngine
from pi0.ript.engine.fsdp import FsdpEngine, shard
from pi0.ript.engine.process_group import ProcessGroup
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.engine.single import SingleEngine
from pi0.ript.engine.strategy import choose_strategy, require_shardable
from pi0.ript.engine.threads import leave_cores_to_simulators
from pi0.ript.env.libero.headless import resolve_egl_device
from pi0.ript.env.runner import EnvRunner
from pi0.ript.env.suites import locate_task, make_initial_state, split, task_count
from pi0.ript.interfaces import Ranks, Reporter
from pi0.ript.learner.update import Engine
from pi0.ript.report.console import make_progress
from pi0.ript.report.episode_log import EPISODES_NAME, EpisodeLog
from pi0.ript.report.jsonl import METRICS_NAME, JsonlReporter
from pi0.ript.report.reporters import LineReporter, Reporters, TensorBoardReporter
from pi0.ript.report.video import VideoWriter
from pi0.ript.seeding import derive_seed
from pi0.ript.train.async_collector import OneAhead
from pi0.ript.train.checkpoint import load_training_state
from pi0.ript.train.collector import Collect, InTurn, Order, Practice
from pi0.ript.train.initial_states import InitialStateSampler
from pi0.ript.train.memory_watch import MemoryWatch
from pi0.ript.train.parts import Start, TrainerParts
from pi0.ript.train.trainer import Trainer

logger = logging.getLogger(__name__)


def choose_device(requested: str) -> torch.device:
    """Return the device; ``auto`` takes a GPU if there is one, and the choice is announced."""
    has_gpu = torch.cuda.is_available()
    if requested == "cuda" and not has_gpu:
        raise ValueError("policy.device is cuda, but torch sees no GPU; use cpu or auto")
    uses_gpu = has_gpu and requested != "cpu"
    device = torch.device("cuda", torch.cuda.current_device()) if uses_gpu else torch.device("cpu")
    logger.info("device: %s (policy.device: %s)", device, requested)
    return device


def choose_egl_device(config: TrainConfig) -> int | None:
    """Return the GPU that simulators draw on, as EGL counts them; None keeps the environment's."""
    uses_gpu = config.policy.device != "cpu" and torch.cuda.is_available()
    cuda_index = torch.cuda.current_device() if uses_gpu else None
    return resolve_egl_device(config.env.egl_device, cuda_index, os.environ)


def build_policy(config: TrainConfig, path: str | Path | None = None) -> Pi0Policy:
    """Load the policy once and show its card.

    ``path`` replaces ``policy_path`` when a run is resumed: its checkpoint holds all that was chosen.
    With adapters a resumed run starts from the weights under them again, because a checkpoint's policy
    holds the two merged; the adapters come back with the state of the engine.
    """
    leave_cores_to_simulators()
    if config.policy.lora.rank:
        path = None
    policy = load_policy(
        path or config.policy_path,
        device=choose_device(config.policy.device),
        batch_size=config.policy.batch_size,
        norm_stats_path=None if path else config.norm_stats_path,
        tokenizer_path=None if path else config.policy.tokenizer_path,
        protocol=None if path else config.policy.protocol,
        overrides={} if path else config.policy.overrides.chosen(),
        keeps_masters=config.policy.trains_everything,
    )
    policy.network.checkpoints_layers = config.policy.gradient_checkpointing
    if config.policy.compile:
        policy.network.compile_denoising()
    text = description_text(describe_policy(policy))
    logger.info("policy: %s\n%s", path or config.policy_path, text.rstrip())
    return policy


def resolve_tasks(config: TrainConfig) -> tuple[tuple[str, int], ...]:
    """Return (suite, task index) of every task to practise; unknown names are errors."""
    suite, task = config.task.benchmark_name, config.task
    named = (task.task_name,) if task.task_name is not None else task.task_names_to_use
    tasks = [locate_task(suite, name) for name in named]
    return tuple(dict.fromkeys(tasks)) or tuple((suite, n) for n in range(task_count(suite)))


def build_states(
    config: TrainConfig, tasks: tuple[tuple[str, int], ...], position: int = 0
) -> InitialStateSampler:
    """Return the order in which the training initial states of all tasks are practised."""
    train, _ = split(config.task.num_held_out_states)
    candidates = [
        make_initial_state(suite, task_id, index, config.task.fixture_seed)
        for suite, task_id in tasks
        for index in train
    ]
    return InitialStateSampler(candidates, config.training.seed, position)


def build_engine(config: TrainConfig, policy: Pi0Policy, ranks: Ranks = SINGLE_PROCESS) -> Engine:
    """Return the optimizer around the parameters that practice may change."""
    algo, lora = config.algo, config.policy.lora
    if lora.rank:
        seed = derive_seed(config.training.seed, "lora")
        parameters = policy.add_adapters(rank=lora.rank, targets=lora.targets, seed=seed)
    else:
        parameters = policy.trainable_parameters(expert_only=config.policy.train_expert_only)
    has_branch = algo.objective == "cfg"
    if has_branch:
        parameters = [*parameters, policy.network.add_unconditional()]
    process_group = ranks if isinstance(ranks, ProcessGroup) else None
    is_sharded = process_group is not None and choose_strategy(config, parameters) == "fsdp"
    if process_group is not None and is_sharded:
        require_shardable(config)
        parameters = shard(policy.network, parameters, process_group)
    engine = SingleEngine(
        parameters,
        config.training.optimizer,
        algo.lr,
        algo.warmup_steps,
        algo.grad_norm_clip,
        # what the saved policy does not hold: adapters, the unconditional branch
        keeps_weights=lora.rank > 0 or has_branch,
    )
    if process_group is None:
        return engine
    if is_sharded:
        return FsdpEngine(engine, policy.network, process_group)
    return DdpEngine(engine, process_group)


def build_objective(algo: AlgoConfig) -> Objective:
    """Return the learning rule that ``algo.objective`` names."""
    match algo.objective:
        case "flow_sde":
            return FlowSde(algo)
        case "nft":
            return Nft(algo)
        case "cfg":
            return GuidedCloning(algo)
        case "bc":
            return Cloning(algo)


def build_trainer(
    config: TrainConfig,
    policy: Pi0Policy,
    runner: EnvRunner,
    run_dir: Path,
    checkpoint: Path | None,
    console: Console,
    objective: Objective | None = None,
    ranks: Ranks = SINGLE_PROCESS,
) -> Trainer:
    """Return a trainer, at its beginning or where ``checkpoint`` left it.

    ``objective`` is a learning rule of one's own; None takes the one that ``algo.objective`` names.
    """
    tasks = resolve_tasks(config)
    engine = build_engine(config, policy, ranks)
    if objective is not None and config.training.overlap:
        raise ValueError(
            "training.overlap needs the objective flow_sde, got a learning rule of one's own; "
            "set training.overlap to false"
        )
    objective = objective or build_objective(config.algo)
    start = (
        Start.of_new_run(config)
        if checkpoint is None
        else _resume(config, run_dir, checkpoint, engine, objective)
    )
    progression = start.progression
    states = build_states(config, tasks, start.position)
    is_writer = ranks.rank == 0
    parts = TrainerParts(
        policy=policy,
        runner=runner,
        engine=engine,
        ranks=ranks,
        objective=objective,
        solved=start.solved,
        guard=start.guard,
        memory=MemoryWatch(
            config.training.memory_limit_gb,
            worker_pids=lambda: runner.worker_pids,
            drop_scenes=runner.drop_scenes,
        ),
        states=states,
        practice=build_practice(config, policy, Order(states, start.solved), start.acting),
        tasks=tasks,
        reporter=build_reporter(config, run_dir, progression.step) if is_writer else Reporters([]),
        episode_log=EpisodeLog(run_dir / EPISODES_NAME, last_step=progression.step)
        if is_writer
        else None,
        rollout_videos=build_rollout_videos(config, run_dir),
        progress=make_progress(console),
        run_dir=run_dir,
        config_hash=config_hash(config),
    )
    return Trainer(config, parts, progression, start.stopwatch)


def _resume(
    config: TrainConfig, run_dir: Path, checkpoint: Path, engine: Engine, objective: Objective
) -> Start:
    """Put engine and objective where a checkpoint has them; return the rest of what it holds.

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
    start = Start.restored(config, state)
    logger.info("resuming %s after step %d", run_dir, state.step)
    return start


def build_rollout_videos(config: TrainConfig, run_dir: Path) -> VideoWriter:
    """Return the writer of practice films; those on disk from before a resume count as its own."""
    earlier = list(config.video.folder(run_dir).glob("practice_*/*.mp4"))
    return VideoWriter.within(config.video, earlier)


def build_practice(
    config: TrainConfig, policy: Pi0Policy, order: Order, acting: Mapping[str, Tensor]
) -> Callable[[Collect], Practice]:
    """Return what makes the practice of a trainer; call it once it is settled what is trained."""
    if config.training.overlap:
        return lambda collect: OneAhead(policy, collect, order, acting)
    return lambda collect: InTurn(policy, collect, order)


def build_reporter(config: TrainConfig, run_dir: Path, last_step: int) -> Reporter:
    """Return everything that records the figures of a step."""
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
