"""TrainConfig -> objects. The only place that chooses classes; the runner comes from ``build_runner``."""

import importlib
import logging
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from pi0.background import in_background
from pi0.checkpoint import BUILTIN, find_folder, load_policy
from pi0.description import describe_policy, description_text
from pi0.formats.base import Base, read_base
from pi0.formats.folder import read_folder
from pi0.formats.weight_files import StoredTensor
from pi0.policy import Pi0Policy
from pi0.records import Sampling
from pi0.ript.algo.bc import Cloning
from pi0.ript.algo.cfg import GuidedCloning
from pi0.ript.algo.flow_sde import FlowSde
from pi0.ript.algo.nft import Nft
from pi0.ript.algo.objective import Objective
from pi0.ript.build_runner import resolve_tasks
from pi0.ript.config.load import to_plain
from pi0.ript.config.same_run import config_hash
from pi0.ript.config.schema import AlgoConfig, TrainConfig, VideoConfig
from pi0.ript.diagnose.checkpoint import choices_of
from pi0.ript.engine.ddp import DdpEngine
from pi0.ript.engine.determinism import repeat_exactly
from pi0.ript.engine.fsdp import FsdpEngine, shard
from pi0.ript.engine.process_group import ProcessGroup
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.engine.single import SingleEngine
from pi0.ript.engine.strategy import choose_strategy, require_shardable
from pi0.ript.engine.threads import leave_cores_to_simulators
from pi0.ript.env.runner import EnvRunner
from pi0.ript.env.suites import make_initial_state, split, step_limit
from pi0.ript.evaluation.episodes import protocol_text, requests_of_run
from pi0.ript.interfaces import Ranks, Reporter
from pi0.ript.learner.critic import Critic
from pi0.ript.learner.update import Engine
from pi0.ript.report.action_log import ActionLog, actions_name
from pi0.ript.report.console import make_progress
from pi0.ript.report.episode_log import EPISODES_NAME, EpisodeLog
from pi0.ript.report.jsonl import METRICS_NAME, JsonlReporter
from pi0.ript.report.reporters import LineReporter, Reporters, TensorBoardReporter
from pi0.ript.report.video import VideoWriter
from pi0.ript.seeding import derive_seed
from pi0.ript.train.async_collector import AsyncCollector
from pi0.ript.train.checkpoints.folder import POLICY_FOLDER
from pi0.ript.train.collector import Collector
from pi0.ript.train.evaluator import Evaluator
from pi0.ript.train.initial_states import InitialStateSampler
from pi0.ript.train.memory_watch import MemoryWatch
from pi0.ript.train.parts import Start, TrainerParts, resume
from pi0.ript.train.progression import Stages
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


def build_policy(config: TrainConfig, path: str | Path | None = None) -> Pi0Policy:
    """Load the policy once and show its card.

    ``path`` replaces ``policy_path`` when a run is resumed: its checkpoint holds all that was chosen.
    With adapters a resumed run starts from the weights under them again, because a policy is loaded with
    the two merged; the adapters come back with the state of the engine.
    """
    leave_cores_to_simulators()
    if config.policy.lora.rank:
        path = None
    device = choose_device(config.policy.device)
    if config.policy.cuda_graphs and device.type != "cuda":
        raise ValueError(
            f"policy.cuda_graphs is true, but the policy is on {device}; set it to false, or policy.device to cuda"
        )
    if config.training.deterministic:
        repeat_exactly(device)
    policy = load_policy(
        path or config.policy_path,
        device=device,
        batch_size=config.policy.batch_size,
        norm_stats_path=None if path else config.norm_stats_path,
        tokenizer_path=None if path else config.policy.tokenizer_path,
        protocol=None if path else config.policy.protocol,
        overrides={} if path else config.policy.overrides.chosen(),
        keeps_masters=config.policy.trains_everything,
    )
    policy.network.checkpoints_layers = config.policy.gradient_checkpointing
    policy.network.set_denoising(config.policy.denoising)
    text = description_text(describe_policy(policy))
    logger.info("policy: %s\n%s", path or config.policy_path, text.rstrip())
    return policy


def find_base(config: TrainConfig, checkpoint: Path | None) -> "Future[Base] | None":
    """Return the policy that a run trains, which its checkpoints name; every byte of its weights is read meanwhile.

    None for the embedded policy, and for a run whose checkpoint names none: its checkpoints are whole policies.
    Where a resumed run began with another policy than is there now, the result is that error.

    Raises:
        FileNotFoundError: The policy that a resumed run began with is gone.
        ValueError: ``policy_path`` means another one here.
    """
    stored = None if checkpoint is None else read_base(checkpoint / POLICY_FOLDER)
    if config.policy_path == BUILTIN or (checkpoint is not None and stored is None):
        return None
    if stored is not None:
        stored.check_sizes()
    folder = find_folder(config.policy_path if stored is None else stored.path)
    # adapters go on top of policy_path again, which a relative path may find elsewhere
    if config.policy.lora.rank and not folder.samefile(find_folder(config.policy_path)):
        raise ValueError(
            f"{checkpoint} was trained from {folder}, but policy_path {config.policy_path!r} is "
            f"{Path(config.policy_path).resolve()} here; resume where the run began: cd there first"
        )
    tensors = read_folder(folder, choices_of(config)).tensors
    return in_background(partial(_read_base, stored, folder, tensors))


def _read_base(stored: Base | None, folder: Path, tensors: Mapping[str, StoredTensor]) -> Base:
    if stored is not None:
        stored.verify()
    return Base.of(folder, tensors)


def adopt_denoise_steps(policy: Pi0Policy, num_steps: int) -> None:
    """Let the card say the denoise steps that a run trains with: whatever loads its checkpoints follows the card.

    One warning names both numbers where the policy was meant for another one.
    """
    if policy.card.denoise_steps == num_steps:
        return
    logger.warning(
        "policy.denoise_steps is %d and the policy's card says %d: this run acts, learns and evaluates with %d, "
        "and the cards of its checkpoints will say so; --policy.denoise_steps %d follows the card",
        *(num_steps, policy.card.denoise_steps, num_steps, policy.card.denoise_steps),
    )
    policy.card = replace(policy.card, denoise_steps=num_steps)


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


def build_engine(config: TrainConfig, policy: Pi0Policy, ranks: Ranks = SINGLE_PROCESS) -> Engine:
    """Return the optimizer around the parameters that training may change."""
    algo, lora = config.algo, config.policy.lora
    if lora.rank:
        seed = derive_seed(config.training.seed, "lora")
        parameters = policy.add_adapters(rank=lora.rank, targets=lora.targets, seed=seed)
    else:
        parameters = policy.trainable_parameters(expert_only=config.policy.train_expert_only)
    # the saved policy does not hold adapters, nor the unconditional branch
    num_saved = 0 if lora.rank else len(parameters)
    if algo.objective == "cfg":
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
        kept_weights=range(num_saved, len(parameters)),
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


def build_critic(config: TrainConfig, policy: Pi0Policy) -> Critic | None:
    """Return what ``algo.critic`` names."""
    if config.algo.critic == "none":
        return None
    seed = derive_seed(config.training.seed, "critic")
    width = policy.network.feature_width
    return Critic(config.algo.value, width, config.training.optimizer, seed)


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
        key, off = (
            ("training.overlap", "false") if config.training.overlap else ("algo.replay_steps", "0")
        )
        raise ValueError(
            f"{key} needs the objective flow_sde, got a learning rule of one's own; set {key} to {off}"
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
