"""Record expert demonstrations on real LIBERO: ``ript demos --output_dir demonstrations``."""

import os
from pathlib import Path

from pi0.ript.demos.experts import EXPERTS
from pi0.ript.demos.record import DemoSettings, record_all
from pi0.ript.scripts.flags import Parser, add_flags, from_flags
from pi0.tiny import tiny_card


def main(argv: list[str]) -> None:
    """Record every task that has an expert."""
    parser = Parser(prog="ript demos", description=__doc__)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--num_workers", type=int, default=len(os.sched_getaffinity(0)))
    add_flags(parser, DemoSettings)
    arguments = parser.parse_args(argv)
    record_all(
        list(EXPERTS),
        tiny_card().spec,
        from_flags(arguments, DemoSettings),
        arguments.output_dir,
        arguments.num_workers,
    )
