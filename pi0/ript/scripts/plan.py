"""Say what a training run needs in memory and on the disk before anything is loaded.

The configuration and its settings are given as in ``ript train``.

Examples:
    ript plan quickstart
    ript plan libero_object --gpu h200 --task.num_parallel_envs 16
    ript plan --config_path my.yaml --gpu l4
"""

import os
from collections.abc import Sequence
from dataclasses import replace

import torch

from pi0.card import PolicyCard
from pi0.checkpoint import find_folder
from pi0.formats.folder import Contents, read_folder
from pi0.precision import choose_on_gpu, computes_bfloat16, is_precision_given
from pi0.ript.build_runner import resolve_tasks
from pi0.ript.config.environment import choose_runner
from pi0.ript.config.load import load_launch
from pi0.ript.config.schema import TrainConfig
from pi0.ript.diagnose.checkpoint import choices_of
from pi0.ript.diagnose.disk_plan import CheckpointBytes, predict_checkpoints
from pi0.ript.diagnose.memory_plan import (
    GIB,
    GPU_GIB,
    WITHOUT_BFLOAT16,
    Item,
    MemoryKind,
    Place,
    advice,
    longest_episode,
    make_plan,
)
from pi0.ript.env.resources import Machine, Sizing, choose_sizing, fit_scenes, read_machine
from pi0.ript.scripts.parts.flags import Parser


def read_checkpoint(config: TrainConfig) -> Contents:
    """Read everything of the checkpoint but its tensors."""
    return read_folder(find_folder(config.policy_path), choices_of(config))


def size_simulators(config: TrainConfig, card: PolicyCard, machine: Machine) -> Sizing:
    """Return how many simulators the chosen runner would have, and where."""
    num_tasks, env = len(resolve_tasks(config)), config.env
    if choose_runner(config, os.environ).name == "serial":
        return fit_scenes(env.max_scenes, num_tasks, card.spec, machine)
    return choose_sizing(
        config.task.num_parallel_envs,
        1 if env.backend == "inline" else env.num_workers,
        max_scenes=env.max_scenes,
        num_tasks=num_tasks,
        group_size=config.algo.rloo_batch_size,
        spec=card.spec,
        machine=machine,
    )


def card_on_gpu(config: TrainConfig, contents: Contents, gpu: str | None) -> PolicyCard:
    """Return the policy's card with the precision that the named GPU, else the one here, computes in; say which."""
    has_bfloat16 = computes_bfloat16() if gpu is None else gpu not in WITHOUT_BFLOAT16
    is_given = is_precision_given(contents.layout, config.policy.overrides.chosen())
    card, reason = choose_on_gpu(contents.card, is_given=is_given, has_bfloat16=has_bfloat16)
    print(f"precision on the GPU: {reason}")
    return card


def device_bytes(gpu: str | None, requested: str) -> int | None:
    """Return the memory of the named GPU, else of the one that is there; None where learning uses the CPU."""
    if gpu is not None:
        return GPU_GIB[gpu] * GIB
    if requested == "cpu" or not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_properties(0).total_memory


def print_items(title: str, items: Sequence[Item], available: int) -> bool:
    """Print what one memory must hold and return whether it fits."""
    needed = sum(item.num_bytes for item in items)
    print(f"{title}")
    for item in items:
        print(f"  {item.name:<18}{item.num_bytes / GIB:10.2f} GiB")
    verdict = "fits" if needed <= available else "DOES NOT FIT"
    print(f"  {'together':<18}{needed / GIB:10.2f} GiB of {available / GIB:.2f} GiB: {verdict}")
    return needed <= available


def print_checkpoints(checkpoints: CheckpointBytes, keep: int) -> None:
    """Print what the checkpoints of the run take."""
    print("disk")
    for name, num_bytes in (
        ("first checkpoint", checkpoints.first),
        ("each checkpoint", checkpoints.each),
        ("last checkpoint", checkpoints.last),
        ("at most at once", checkpoints.needed(keep)),
    ):
        print(f"  {name:<18}{num_bytes / GIB:10.2f} GiB")


def main(argv: Sequence[str]) -> None:
    """Print the plan."""
    parser = Parser(
        "ript plan", __doc__, "ript plan NAME|--config_path FILE [--gpu CARD] [--<key> VALUE] ..."
    )
    cards = sorted(GPU_GIB)
    parser.add_argument(
        "--gpu", choices=cards, metavar="CARD", help=f"plan for this card: {', '.join(cards)}"
    )
    arguments, rest = parser.parse_known_args(argv)
    config = load_launch(rest).config
    contents, machine = read_checkpoint(config), read_machine()
    on_device = device_bytes(arguments.gpu, config.policy.device)
    sizing = size_simulators(config, contents.card, machine)
    print(f"policy {config.policy_path}; {sizing.line}")
    if on_device is not None:
        contents = replace(contents, card=card_on_gpu(config, contents, arguments.gpu))
    limit = longest_episode(config, contents.card, resolve_tasks(config))
    place = Place(device_bytes=on_device, host_bytes=machine.memory_bytes)
    items = make_plan(config, contents.card, contents.config, sizing, limit, place)
    places: list[tuple[str, set[MemoryKind], int]] = [
        ("device", {"device"}, on_device or 0),
        ("host", {"host"}, machine.memory_bytes),
    ]
    if on_device is None:
        places = [("host (learning on the CPU)", {"device", "host"}, machine.memory_bytes)]
    for title, kinds, available in places:
        some = [item for item in items if item.memory in kinds]
        if not print_items(title, some, available):
            print(f"  to fit: {advice(some, config)}")
    checkpoints = predict_checkpoints(config, contents, limit)
    print_checkpoints(checkpoints, config.training.keep_checkpoints)
