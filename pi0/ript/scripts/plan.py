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

from pi0.card import PolicyCard
from pi0.ript.build_runner import resolve_tasks
from pi0.ript.config.environment import choose_runner
from pi0.ript.config.load import load_launch
from pi0.ript.config.schema import TrainConfig
from pi0.ript.diagnose.disk_plan import predict_checkpoints
from pi0.ript.diagnose.memory_plan import GPU_GIB, Place, advice, longest_episode, make_plan
from pi0.ript.env.resources import Machine, Sizing, choose_sizing, fit_scenes, read_machine
from pi0.ript.scripts.parts.flags import Parser
from pi0.ript.scripts.parts.plan_page import (
    card_on_gpu,
    device_bytes,
    print_disk,
    print_memory,
    read_checkpoint,
)


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
    print_memory(items, on_device, machine.memory_bytes, lambda some: advice(some, config))
    checkpoints = predict_checkpoints(config, contents, limit)
    print_disk(
        {
            "first checkpoint": checkpoints.first,
            "each checkpoint": checkpoints.each,
            "last checkpoint": checkpoints.last,
            "at most at once": checkpoints.needed(config.training.keep_checkpoints),
        }
    )
