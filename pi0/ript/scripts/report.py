"""Write one page about one or several runs: curves, videos, what came of every task.

Examples:
    ript report outputs/RUN
    ript report outputs/RUN outputs/OTHER --output compared.html
    ript report outputs/RUN --redraw
"""

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from pi0.ript.demos.redrawing import redraw
from pi0.ript.report.page.render import REPORT_NAME, write_report
from pi0.ript.run_folder import find_run
from pi0.ript.scripts.parts.flags import Parser, require_number

logger = logging.getLogger(__name__)

REDRAWN_SIZE = 256


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = Parser("ript report", __doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories; several are compared")
    parser.add_argument(
        "--output", type=Path, default=None, help=f"default: {REPORT_NAME} in the first directory"
    )
    parser.add_argument(
        "--redraw",
        type=int,
        nargs="?",
        const=REDRAWN_SIZE,
        metavar="PIXELS",
        help=f"first draw a success and a failure of every task again, at every control step and {REDRAWN_SIZE} pixels, "
        "or as many as said; takes a simulator and minutes",
    )
    arguments = parser.parse_args(argv)
    require_number(arguments, "redraw", least=16)
    if arguments.redraw and arguments.redraw % 2:
        parser.error(f"--redraw must be even for a video, got {arguments.redraw}")
    return arguments


def main(argv: Sequence[str]) -> None:
    """Write the page and print where it is."""
    arguments = parse(argv)
    runs = [find_run(path) or path for path in arguments.runs]
    if arguments.redraw:
        for run in runs:
            count = redraw(run, arguments.redraw, num_workers=len(os.sched_getaffinity(0)))
            logger.info("%s: %d videos", run, count)
    print(write_report(runs, arguments.output))
