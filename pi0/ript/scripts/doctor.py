"""Check this machine, its packages, a policy and the simulator, and say how to fix what is wrong.

The exit status is 1 if anything must be fixed.

Examples:
    ript doctor
    ript doctor --policy DIR --json
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from pi0.ript.config.schema import TrainConfig
from pi0.ript.diagnose.checkpoint import check_checkpoint
from pi0.ript.diagnose.finding import Finding
from pi0.ript.diagnose.machine import EXACT_SPEC, check_disk, check_memory, check_shared_memory
from pi0.ript.diagnose.simulator import check_assets, check_rendering, require_picture_file
from pi0.ript.diagnose.software import (
    check_gpu,
    check_launchers,
    check_packages,
    check_python,
    check_videos,
)
from pi0.ript.scripts.parts.flags import Parser
from pi0.ript.scripts.parts.policy_flags import add_policy_flags, policy_choices


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line."""
    defaults = TrainConfig()
    parser = Parser("ript doctor", __doc__)
    parser.add_argument("--policy", default="builtin", help="builtin or a checkpoint folder")
    add_policy_flags(parser)
    parser.add_argument(
        "--output_dir", type=Path, default=Path(defaults.output_dir), help="where runs will go"
    )
    parser.add_argument(
        "--picture",
        dest="image",
        metavar="FILE",
        type=Path,
        default=Path("doctor.png"),
        help="receives an image that LIBERO draws; default doctor.png",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of lines")
    return parser.parse_args(argv)


def examine(arguments: argparse.Namespace) -> Iterator[Finding]:
    """Yield every finding as soon as it is known."""
    yield check_python()
    yield from check_packages()
    yield check_gpu()
    diagnosis = check_checkpoint(arguments.policy, policy_choices(arguments))
    spec = EXACT_SPEC if diagnosis.contents is None else diagnosis.contents.card.spec
    yield check_memory(spec)
    yield check_shared_memory()
    yield check_disk(arguments.output_dir, diagnosis.num_parameters)
    yield from diagnosis.findings
    yield check_assets()
    yield from check_rendering(arguments.image)
    yield check_videos()
    yield from check_launchers()


def main(argv: Sequence[str]) -> int:
    """Print what was found; 1 if anything is an error."""
    arguments = parse(argv)
    require_picture_file(arguments.image)
    findings: list[Finding] = []
    for finding in examine(arguments):
        findings.append(finding)
        if not arguments.json:
            print(finding.line, flush=True)
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    return 1 if any(finding.status == "error" for finding in findings) else 0
