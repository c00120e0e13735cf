"""Record demonstrations on LIBERO for ``ript sft``: of the scripted experts, or LIBERO's own played again.

LIBERO's recordings become a LeRobotDataset with what the policy would have observed; only what succeeds again is kept.
With --format lerobot so do the experts' episodes: an image per control step, actions as executed.

Examples:
    ript demos --output_dir demonstrations
    ript demos --suite libero_object --output_dir libero_object --per_task 30
    ript demos --output_dir lerobot_set --format lerobot --per_task 10
    ript demos --from_hdf5 libero_goal --suite libero_goal --policy pi0_base --output_dir libero_goal_lerobot
"""

import argparse
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from pi0.card import PolicyCard
from pi0.checkpoint import find_folder
from pi0.formats.folder import Choices, read_folder
from pi0.ript.config.task import MAX_NUMPY_SEED, STATES_PER_TASK
from pi0.ript.datasets.writer import require_free, write_lerobot
from pi0.ript.demos.experts.tables import EXPERTS, with_experts
from pi0.ript.demos.recorder import record_all
from pi0.ript.demos.replayer import replay_all
from pi0.ript.demos.settings import DemoSettings, ReplaySettings
from pi0.ript.env.suites import chosen_tasks
from pi0.ript.scripts.parts.dataset_flags import (
    DATASET_FLAGS,
    IMAGE_FLAGS,
    add_dataset_flags,
    recordings_for,
    spec_and_layout,
)
from pi0.ript.scripts.parts.flags import Parser, add_flags, from_flags, require_number
from pi0.tiny import tiny_card

logger = logging.getLogger(__name__)

COUNTS = ("num_workers", "per_task", "max_attempts", "max_steps", "frame_every", "horizon")
OF_RECORDINGS = ("max_attempts", "fixture_seed")  # of DemoSettings, what --from_hdf5 follows
OF_EXPERTS = (
    "num_workers",
    *(field.name for field in fields(DemoSettings) if field.name not in OF_RECORDINGS),
)


def make_parser() -> Parser:
    """Return the parser."""
    parser = Parser("ript demos", __doc__)
    parser.add_argument("--output_dir", type=Path, required=True, help="receives one file per task")
    parser.add_argument(
        "--policy",
        default=None,
        help="for which images are drawn; default: the tiny policy, and for a LeRobotDataset what --cameras and "
        "--render_size say",
    )
    parser.add_argument(
        "--from_hdf5", type=Path, default=None, help="LIBERO's *_demo.hdf5, a file or their folder"
    )
    parser.add_argument(
        "--suite",
        default=None,
        help="one or more suites, separated by commas; default: all with experts, "
        "of which the embedded policy was made; with --from_hdf5 the suite of its recordings",
    )
    parser.add_argument(
        "--tasks",
        nargs="*",
        default=[],
        help="of --suite, names or indices; default all with an expert",
    )
    parser.add_argument(
        "--format",
        choices=("ript", "lerobot"),
        default="ript",
        help="of the experts' demonstrations; ript is a file per task; default %(default)s",
    )
    add_dataset_flags(parser)
    parser.add_argument(
        "--num_workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="processes; default: one per core",
    )
    add_flags(parser, DemoSettings)
    return parser


def card_of(policy: str | None) -> PolicyCard:
    """Return the card of a policy folder, the tiny one's for none."""
    if policy is None:
        return tiny_card()
    nothing = Choices(protocol=None, overrides={}, norm_stats_path=None, tokenizer_path=None)
    return read_folder(find_folder(policy), nothing).card


def main(argv: list[str]) -> None:
    """Record experts, or play recordings again."""
    parser = make_parser()
    arguments, given = parser.parse_args(argv), parser.given(argv)
    _refuse_unused(arguments, given)
    card = card_of(arguments.policy)
    if arguments.policy is not None and "horizon" not in given:
        arguments.horizon = card.horizon
    for name in (*COUNTS, "fps", "render_size"):
        require_number(arguments, name, least=1)
    require_number(arguments, "num_held_out_states", least=0, most=STATES_PER_TASK - 1)
    require_number(arguments, "fixture_seed", least=0, most=MAX_NUMPY_SEED - 1)
    if not (math.isfinite(arguments.action_noise) and arguments.action_noise >= 0):
        raise ValueError(f"--action_noise must be finite and >= 0, got {arguments.action_noise}")
    settings: DemoSettings = from_flags(arguments, DemoSettings)
    look = None if arguments.policy is None else card  # of a LeRobotDataset
    if arguments.from_hdf5 is not None:
        _replay(arguments, look, settings)
        return
    tasks = _tasks(arguments)
    if arguments.format == "lerobot":
        _record_lerobot(arguments, tasks, look, settings)
        return
    record_all(tasks, card.spec, settings, arguments.output_dir, arguments.num_workers)


def _refuse_unused(arguments: argparse.Namespace, given: set[str]) -> None:
    """Raise ``ValueError`` for a flag that was given and would change nothing."""
    rules: list[tuple[str, Sequence[str], str]] = []
    if arguments.from_hdf5 is not None:
        why = "it is about experts, recordings are played as they are"
        rules.append(("with --from_hdf5", OF_EXPERTS, why))
        if "format" in given and arguments.format != "lerobot":
            raise ValueError(
                f"--format {arguments.format} has no effect with --from_hdf5: recordings become a LeRobotDataset; "
                "leave it out"
            )
    elif arguments.format == "lerobot":
        why = "every control step is kept with the action as executed"
        rules.append(("with --format lerobot", ("frame_every", "horizon"), why))
    else:
        rules.append(("without --format lerobot", DATASET_FLAGS, "it is about a LeRobotDataset"))
    if arguments.policy is not None:
        rules.append(("with --policy", IMAGE_FLAGS, "the policy's card decides what is drawn"))
    for where, names, why in rules:
        for name in names:
            if name in given:
                raise ValueError(f"--{name} has no effect {where}: {why}; leave it out")


def _tasks(arguments: argparse.Namespace) -> list[tuple[str, int]]:
    """Return the tasks to record, and say in one line which of the chosen ones have no expert.

    Raises:
        ValueError: No task is chosen, or none that has an expert.
    """
    if arguments.suite is None:
        if arguments.tasks:
            raise ValueError("--tasks needs --suite, e.g. --suite libero_goal")
        return with_experts(list(EXPERTS))
    chosen = chosen_tasks(arguments.suite, arguments.tasks)
    tasks = with_experts(chosen)
    if missing := [
        f"{suite}/{task_id}" for suite, task_id in chosen if (suite, task_id) not in tasks
    ]:
        logger.warning("left out, because no expert can do them reliably: %s", ", ".join(missing))
    return tasks


def _record_lerobot(
    arguments: argparse.Namespace,
    tasks: list[tuple[str, int]],
    card: PolicyCard | None,
    settings: DemoSettings,
) -> None:
    folder, workers = arguments.output_dir.resolve(), arguments.num_workers
    spec, layout = spec_and_layout(arguments, card)
    require_free(folder)
    with recordings_for(folder) as recordings:
        record_all(tasks, spec, settings, recordings.folder, workers, every_step=True)
        count = write_lerobot(folder, recordings.take(), layout)
    logger.info("%s: %d episodes", folder, count)


def _replay(arguments: argparse.Namespace, card: PolicyCard | None, settings: DemoSettings) -> None:
    if arguments.suite is None:
        raise ValueError(
            "--from_hdf5 needs --suite, e.g. --suite libero_goal: recordings do not say it"
        )
    if arguments.tasks:
        raise ValueError("--tasks is about experts; give --from_hdf5 the files of the tasks")
    spec, layout = spec_and_layout(arguments, card)
    replay_all(
        arguments.from_hdf5,
        spec,
        ReplaySettings(
            suite=arguments.suite,
            most=settings.max_attempts,
            fixture_seed=settings.fixture_seed or 0,
        ),
        layout,
        arguments.output_dir,
    )
