"""Record demonstrations of scripted experts on LIBERO, for ``ript sft``.

Examples:
    ript demos --output_dir demonstrations
    ript demos --output_dir demonstrations --per_task 10 --num_workers 2
"""

import os
from pathlib import Path

from pi0.ript.config.task import MAX_NUMPY_SEED, STATES_PER_TASK
from pi0.ript.demos.experts import EXPERTS
from pi0.ript.demos.recorder import record_all
from pi0.ript.demos.settings import DemoSettings
from pi0.ript.scripts.parts.flags import Parser, add_flags, from_flags, require_number
from pi0.tiny import tiny_card

COUNTS = ("num_workers", "per_task", "max_attempts", "max_steps", "frame_every", "horizon")


def main(argv: list[str]) -> None:
    """Record every task that has an expert."""
    parser = Parser("ript demos", __doc__)
    parser.add_argument("--output_dir", type=Path, required=True, help="receives one file per task")
    parser.add_argument(
        "--num_workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="processes; default: one per core",
    )
    add_flags(parser, DemoSettings)
    arguments = parser.parse_args(argv)
    for name in COUNTS:
        require_number(arguments, name, least=1)
    require_number(arguments, "num_held_out_states", least=0, most=STATES_PER_TASK - 1)
    require_number(arguments, "fixture_seed", least=0, most=MAX_NUMPY_SEED - 1)
    record_all(
        list(EXPERTS),
        tiny_card().spec,
        from_flags(arguments, DemoSettings),
        arguments.output_dir,
        arguments.num_workers,
    )
