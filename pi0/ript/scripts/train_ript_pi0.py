"""Improve a pi0 policy by practice on LIBERO.

python pi0/ript/scripts/train_ript_pi0.py --config_path pi0/ript/config/debug_train_ript_vla.yaml
"""

import importlib

from pi0.ript.scripts.exits import run_main

# Before the imports that take seconds: Ctrl-C is one line from the first moment on. As a module of its
# own, not as __main__, the program also has the name under which its log is listened to.
if __name__ == "__main__":
    run_main(lambda argv: importlib.import_module("pi0.ript.scripts.train_ript_pi0").main(argv))

import logging
import os
import re
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

from rich.console import Console

from pi0.ript import build
from pi0.ript.config.environment import RunnerName, choose_runner
from pi0.ript.config.load import RUN_CONFIG_NAME, Launch, load_launch, save_config, to_yaml
from pi0.ript.config.schema import TrainConfig
from pi0.ript.engine.process_group import ProcessGroup, join, require_agreement
from pi0.ript.engine.ranks import SINGLE_PROCESS, RankInfo, SingleProcess
from pi0.ript.env.runner import EnvRunner
from pi0.ript.interfaces import Policy
from pi0.ript.report.console import setup_logging
from pi0.ript.report.launches import record_launch
from pi0.ript.train.checkpoint import POLICY_FOLDER, find_last
from pi0.ript.train.run import train_run

logger = logging.getLogger(__name__)

RunnerClass = Callable[..., EnvRunner]

_RUNNERS: dict[RunnerName, tuple[str, str]] = {
    "serial": ("pi0.ript.env.pi0_libero_runner", "LIBEROEnvRunner"),
    "parallel": ("pi0.ript.env.pi0_libero_runner_ript_vla", "PI0LiberoRunner"),
}


def _import_runner(name: RunnerName) -> tuple[RunnerClass | None, str]:
    """Return a runner class, or None with the reason why it cannot be had."""
    module, attribute = _RUNNERS[name]
    try:
        return getattr(importlib.import_module(module), attribute), ""
    except ImportError as error:
        return None, str(error)


def import_runner_classes() -> tuple[RunnerClass | None, RunnerClass | None]:
    """Return (LIBEROEnvRunner, PI0LiberoRunner); None stands for one that cannot be imported."""
    return _import_runner("serial")[0], _import_runner("parallel")[0]


def create_env_runner(
    config: TrainConfig,
    policy: Policy,
    rank: int = 0,
    world_size: int = 1,
    local_world_size: int = 1,
) -> EnvRunner:
    """Return the runner that the configuration or ``USE_RIPT_VLA_RUNNER`` asks for.

    A runner that cannot be imported is replaced by the other one, with one warning that names the reason.

    Args:
        config: Of the run.
        policy: Acts in the runner's episodes.
        rank: Which of ``world_size`` processes this is.
        world_size: How many processes practise together.
        local_world_size: How many of them share this host; each takes its share of cores and memory.

    Raises:
        RuntimeError: Neither runner can be imported.
    """
    choice = choose_runner(config, os.environ)
    other: RunnerName = "serial" if choice.name == "parallel" else "parallel"
    runner, reason = _import_runner(choice.name)
    name = choice.name
    if runner is None:
        runner, other_reason = _import_runner(other)
        if runner is None:
            raise RuntimeError(
                f"no usable runner: {choice.name}: {reason}; {other}: {other_reason}"
            )
        name = other
        logger.warning(
            "the %s runner was requested by %s but cannot be imported (%s); using the %s runner instead; "
            "run 'make setup' to repair the installation",
            choice.name, choice.source, reason, other,
        )  # fmt: skip
    chosen = runner(
        policy=policy,
        benchmark_name=config.task.benchmark_name,
        rollouts_per_env=config.algo.rloo_batch_size,
        num_parallel_envs=config.task.num_parallel_envs,
        max_episode_length=config.task.max_episode_length,
        task_names_to_use=[f"{suite}/{index}" for suite, index in build.resolve_tasks(config)],
        config=config,
        rank=rank,
        world_size=world_size,
        local_world_size=local_world_size,
        egl_device=build.choose_egl_device(config),
    )
    if rank == 0:
        logger.info(
            "runner: %s, chosen by %s: %s", _RUNNERS[name][1], choice.source, chosen.sizing.line
        )
    return chosen


def new_run_dir(config: TrainConfig) -> Path:
    """Create ``output_dir/exp_name_<time>``; a name is one folder, whatever characters it has."""
    stamp = datetime.now().astimezone().strftime("%Y%m%d_%H%M%S_%f")[:-3]
    name = re.sub(r"[^\w.+-]+", "_", config.exp_name).lstrip(".")
    run_dir = Path(config.output_dir) / f"{name}_{stamp}"
    run_dir.mkdir(parents=True)
    return run_dir


def _common_run_dir(config: TrainConfig, ranks: SingleProcess | ProcessGroup) -> Path:
    """Return the run directory that rank 0 makes once every rank has come this far."""
    ranks.gather_text("ready")
    return Path(ranks.gather_text(str(new_run_dir(config)) if ranks.rank == 0 else "")[0])


def run(
    launch: Launch, console: Console, ranks: SingleProcess | ProcessGroup = SINGLE_PROCESS
) -> Path:
    """Train as asked and return the run directory."""
    config = launch.config
    build.resolve_tasks(config)
    checkpoint = find_last(launch.resume) if launch.resume else None
    if checkpoint:
        ranks.require_same("checkpoint", checkpoint.name, "give every host the same run directory")
    policy = build.build_policy(config, checkpoint and checkpoint / POLICY_FOLDER)
    with create_env_runner(
        config, policy, ranks.rank, ranks.world_size, ranks.rank_info.local_world_size
    ) as runner:
        # Simulators prove that they start before anything is written.
        runner.start()
        run_dir = launch.resume or _common_run_dir(config, ranks)
        trainer = build.build_trainer(
            config, policy, runner, run_dir, checkpoint, console, ranks=ranks
        )
        if ranks.rank == 0:
            save_config(config, run_dir / RUN_CONFIG_NAME)
            record_launch(run_dir, trainer.step, str(policy.device))
        with closing(trainer):
            train_run(trainer, run_dir)
    return run_dir


def main(argv: Sequence[str]) -> None:
    """Parse, build, run; on every rank, if torchrun started several."""
    rank_info = RankInfo.of(os.environ)
    console = Console(stderr=True)
    # what is said about the configuration itself
    setup_logging("INFO", console, rank=rank_info.rank)
    with join(rank_info) as ranks:
        launch = load_launch(argv, os.environ)
        setup_logging(launch.config.logging.level, console, rank=rank_info.rank)
        ranks.connect(launch.config.distributed.timeout_seconds)
        require_agreement(ranks, launch.config, to_yaml(launch.config))
        run(launch, console, ranks)


if __name__ == "__main__":
    run_main(main)
