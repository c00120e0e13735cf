"""Improve a pi0 policy by reinforcement learning on LIBERO.

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
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

from rich.console import Console

from pi0.ript.build import build_trainer
from pi0.ript.build_policy import build_policy, find_base

# Published names, which other programs import from here.
from pi0.ript.build_runner import create_env_runner as create_env_runner
from pi0.ript.build_runner import import_runner_classes as import_runner_classes
from pi0.ript.config.load import Launch, load_launch, save_config, to_yaml
from pi0.ript.config.schema import TrainConfig
from pi0.ript.diagnose.run_checks import require
from pi0.ript.engine.process_group import ProcessGroup, join, require_agreement
from pi0.ript.engine.ranks import SINGLE_PROCESS, RankInfo, SingleProcess
from pi0.ript.report.console import setup_logging
from pi0.ript.report.launches import record_launch
from pi0.ript.run_folder import RUN_CONFIG_NAME
from pi0.ript.scripts.parts.check_run import findings_of_run, print_checks
from pi0.ript.train.checkpoints.folder import POLICY_FOLDER
from pi0.ript.train.checkpoints.store import find_last
from pi0.ript.train.run import train_run

logger = logging.getLogger(__name__)


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
    if ranks.rank == 0:
        require(findings_of_run(launch))
    checkpoint = find_last(launch.resume) if launch.resume else None
    if checkpoint:
        ranks.require_same("checkpoint", checkpoint.name, "give every host the same run directory")
    finding = find_base(config, checkpoint) if ranks.rank == 0 else None
    policy = build_policy(config, checkpoint and checkpoint / POLICY_FOLDER)
    with create_env_runner(
        config, policy, ranks.rank, ranks.world_size, ranks.rank_info.local_world_size
    ) as runner:
        # Simulators prove that they start before anything is written.
        runner.start()
        base = finding and finding.result()
        run_dir = launch.resume or _common_run_dir(config, ranks)
        trainer = build_trainer(
            config, policy, runner, run_dir, checkpoint, console, ranks=ranks, base=base
        )
        if ranks.rank == 0:
            save_config(config, run_dir / RUN_CONFIG_NAME)
            record_launch(run_dir, trainer.progress.step, str(policy.device), runner.driver)
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
        if launch.is_check:
            if rank_info.rank == 0:
                print_checks(launch)
            return
        ranks.connect(launch.config.distributed.timeout_seconds)
        require_agreement(ranks, launch.config, to_yaml(launch.config))
        run(launch, console, ranks)


if __name__ == "__main__":
    run_main(main)
