"""Write one page about one or several runs: curves, videos, what came of every task.

Examples:
    ript report outputs/RUN
    ript report outputs/RUN outputs/OTHER --output compared.html
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pi0.ript.report.page.render import REPORT_NAME, write_report
from pi0.ript.run_folder import find_run
from pi0.ript.scripts.parts.flags import Parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = Parser("ript report", __doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories; several are compared")
    parser.add_argument(
        "--output", type=Path, default=None, help=f"default: {REPORT_NAME} in the first directory"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Write the page and print where it is."""
    arguments = parse(argv)
    runs = [find_run(path) or path for path in arguments.runs]
    print(write_report(runs, arguments.output))
