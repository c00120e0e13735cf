"""Fine-tune a policy on demonstrations: any checkpoint, or a new tiny pi0 or pi0.5 from random weights.

Demonstrations are a LeRobotDataset (2.0, 2.1 or 3.0) or what ``ript demos`` wrote. Several GPUs:
torchrun --nproc_per_node 4 -m pi0.ript.scripts.sft, with the same flags. Defaults below are those of a new tiny policy;
with --policy they are openpi's (30,000 steps of 32 frames, lr 2.5e-5 after 1,000 steps of warm-up).

Examples:
    ript sft --policy pi0_base --data lerobot/libero --output_dir outputs/libero
    ript sft --policy pi0_base --data lerobot/libero --output_dir outputs/one --episodes 0:1 --train lora
    ript sft --resume outputs/libero
    ript sft --demos demonstrations --output_dir outputs/tiny --num_steps 2000 --save_every 500
"""

import argparse
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import torch
from rich.console import Console

from pi0.ript.build_policy import find_base
from pi0.ript.datasets.opening import require_data_set
from pi0.ript.diagnose.disk_plan import predict_checkpoints
from pi0.ript.diagnose.memory_plan import GPU_GIB, Place
from pi0.ript.engine.process_group import ProcessGroup, join
from pi0.ript.engine.ranks import RankInfo, SingleProcess
from pi0.ript.env.resources import read_machine
from pi0.ript.report.console import setup_logging
from pi0.ript.scripts.exits import run_main
from pi0.ript.scripts.parts.fine_tuning import build_sft_trainer, open_policy, sft_config
from pi0.ript.scripts.parts.flags import Parser, add_flags, from_flags, require_number
from pi0.ript.scripts.parts.plan_page import (
    card_on_gpu,
    device_bytes,
    print_disk,
    print_memory,
    read_checkpoint,
)
from pi0.ript.scripts.parts.policy_flags import add_policy_flags
from pi0.ript.sft.plan import fine_tuning_advice, plan_fine_tuning
from pi0.ript.sft.run import SftRun, new_directory, read_request, restore
from pi0.ript.sft.settings import FINE_TUNING, SftSettings
from pi0.ript.train.checkpoints.store import find_last
from pi0.tiny import Architecture

logger = logging.getLogger(__name__)

HERE = "here"  # planning for this machine
TIMEOUT_S = 3600.0  # after which ranks that wait for another one give it up


def make_parser() -> Parser:
    """Return the parser; the defaults of numbers are those of a new tiny policy."""
    parser = Parser("ript sft", __doc__)
    _add_run(parser)
    _add_data(parser)
    _add_training(parser)
    add_flags(parser, SftSettings, "steps and optimizer")
    add_policy_flags(parser)
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    """Add what is fine-tuned on what, and where it is written."""
    group = parser.add_argument_group("run")
    group.add_argument(
        "--policy", default=None, help="checkpoint folder; default: a new tiny policy"
    )
    group.add_argument(
        "--architecture",
        choices=get_args(Architecture),
        default="pi0",
        help="of a new tiny policy; default %(default)s",
    )
    group.add_argument(
        "--data", "--demos", default=None, help="a LeRobotDataset, or what ript demos wrote"
    )
    group.add_argument("--output_dir", default=None, help="receives checkpoints and the policy")
    group.add_argument("--resume", default=None, help="output_dir of a run to go on with, alone")
    group.add_argument(
        "--plan",
        nargs="?",
        const=HERE,
        choices=(HERE, *sorted(GPU_GIB)),
        metavar="CARD",
        help="only say what memory and disk it takes, on this machine or on a card, e.g. h100",
    )


def _add_data(parser: argparse.ArgumentParser) -> None:
    """Add which demonstrations are used, and how their numbers are scaled."""
    group = parser.add_argument_group("demonstrations")
    group.add_argument("--episodes", default=":", help="FIRST:END, e.g. 0:1; default: all")
    group.add_argument(
        "--held_out", default=None, help="FIRST:END, episodes to measure the loss on"
    )
    group.add_argument(
        "--statistics",
        choices=("policy", "data"),
        default="policy",
        help="whether the policy's normalization is kept or computed from the data; default %(default)s",
    )


def _add_training(parser: argparse.ArgumentParser) -> None:
    """Add which weights are trained, and on which devices."""
    group = parser.add_argument_group("what is trained, and where")
    group.add_argument(
        "--train",
        choices=("expert", "lora", "all"),
        default=None,
        help="what is trained; default: expert with --policy, else all",
    )
    group.add_argument("--lora_rank", type=int, default=16, help="default %(default)s")
    group.add_argument(
        "--lora_targets",
        choices=("vlm", "expert", "both"),
        default="both",
        help="default %(default)s",
    )
    group.add_argument(
        "--gradient_checkpointing", action="store_true", help="less memory, more time"
    )
    group.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default %(default)s"
    )
    group.add_argument(
        "--strategy",
        choices=("auto", "ddp", "fsdp"),
        default="auto",
        help="how several ranks share the optimizer; default %(default)s",
    )


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line, or that of the run that is resumed.

    Raises:
        ValueError: A flag is wrong, missing or does not go with another one.
    """
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.resume:
        if len([each for each in argv if each.startswith("--")]) > 1:
            parser.error(
                "--resume goes on with the settings of its run, no other flag goes with it"
            )
        stored = read_request(Path(arguments.resume))
        return argparse.Namespace(**{**vars(arguments), **stored, "output_dir": arguments.resume})
    if arguments.policy:
        # openpi takes no mean of adapters
        recipe = replace(FINE_TUNING, ema_decay=0.0) if arguments.train == "lora" else FINE_TUNING
        parser.set_defaults(**asdict(recipe))
        arguments = parser.parse_args(argv)
    required = ("policy",) if arguments.plan else ("data", "output_dir")
    missing = [name for name in required if getattr(arguments, name) is None]
    if missing:
        parser.error(f"the following arguments are required: --{', --'.join(missing)}")
    require_number(arguments, "lora_rank", least=1)
    if arguments.train == "lora" and arguments.ema_decay:
        parser.error(
            "--ema_decay takes a mean of weights and --train lora has adapters; leave one out"
        )
    if not arguments.plan:
        require_data_set(Path(arguments.data))
    return arguments


def _request(arguments: argparse.Namespace) -> dict[str, object]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(arguments).items()
        if name not in ("resume", "output_dir", "plan")
    }


def print_plan(arguments: argparse.Namespace) -> None:
    """Print what the fine-tuning needs, of every process where several take the same step."""
    settings: SftSettings = from_flags(arguments, SftSettings)
    config = sft_config(arguments, settings)
    contents, machine = read_checkpoint(config), read_machine()
    gpu = None if arguments.plan == HERE else arguments.plan
    on_device = device_bytes(gpu, config.policy.device)
    if on_device is not None:
        contents = replace(contents, card=card_on_gpu(config, contents, gpu))
    place = Place(device_bytes=on_device, host_bytes=machine.memory_bytes)
    items = plan_fine_tuning(config, settings, contents.card, contents.config, place)
    print_memory(
        items, on_device, machine.memory_bytes, lambda some: fine_tuning_advice(some, settings)
    )
    has_mean = settings.ema_decay > 0
    checkpoints = predict_checkpoints(config, contents, 0, keeps_weights=has_mean)
    print_disk({"each checkpoint": checkpoints.each, "last checkpoint": checkpoints.last})


def run(arguments: argparse.Namespace, ranks: SingleProcess | ProcessGroup) -> None:
    """Fine-tune as asked; nothing is written before policy and data are known to fit."""
    folder = Path(arguments.output_dir)
    # a run that is resumed may be from before some of today's flags
    request = read_request(folder) if arguments.resume else _request(arguments)
    checkpoint = find_last(folder) if arguments.resume else None
    if checkpoint:
        ranks.require_same("checkpoint", checkpoint.name, "give every host the same directory")
    state = restore(checkpoint, request) if checkpoint else None
    settings: SftSettings = from_flags(arguments, SftSettings)
    config = sft_config(arguments, settings)
    finding = find_base(config, checkpoint) if arguments.policy else None
    policy, chosen = open_policy(arguments, config, checkpoint)
    base = finding and finding.result()
    trainer = build_sft_trainer(policy, chosen, config, settings, state, ranks)
    if not arguments.resume and ranks.rank == 0:
        new_directory(folder, request)
    ranks.gather_text("the directory is there")
    logger.info("data: %s", chosen.words())
    card = policy.card
    logger.info("statistics: of the %s, hash %s", card.norm_stats_of, policy.codec.stats.digest)
    # a tiny policy is shipped in half precision
    dtype = torch.float32 if arguments.policy else torch.float16
    SftRun(trainer, policy, base, folder, request, settings, ranks, dtype).run()


def main(argv: Sequence[str]) -> None:
    """Parse, build, run; on every rank, if torchrun started several."""
    rank_info = RankInfo.of(os.environ)
    setup_logging("INFO", Console(stderr=True), rank=rank_info.rank)
    with join(rank_info) as ranks:
        arguments = parse(argv)
        if arguments.plan:
            print_plan(arguments)
            return
        ranks.connect(TIMEOUT_S)
        ranks.require_same("flags", str(sorted(vars(arguments).items())), "start every rank alike")
        run(arguments, ranks)


if __name__ == "__main__":
    run_main(main)
