"""Write a policy as another project stores it: openpi, LeRobot or transformers.

Examples:
    ript convert outputs/RUN/checkpoints/last/pretrained_model converted --format lerobot
    ript convert DIR converted --format openpi --norm_stats_path norm_stats.json
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from pi0.checkpoint import find_folder
from pi0.formats.export import Target, export_folder, not_stored
from pi0.formats.folder import read_folder
from pi0.ript.scripts.parts.flags import Parser
from pi0.ript.scripts.parts.policy_flags import add_policy_flags, policy_choices

logger = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> None:
    """Read, check, write; say what the target's files cannot hold."""
    parser = Parser("ript convert", __doc__)
    parser.add_argument("source", metavar="SRC", help="builtin or a checkpoint folder")
    parser.add_argument(
        "destination", metavar="DST", type=Path, help="a folder that does not exist"
    )
    parser.add_argument("--format", choices=get_args(Target), required=True, help="whose")
    add_policy_flags(parser)
    arguments = parser.parse_args(argv)
    contents = read_folder(find_folder(arguments.source), policy_choices(arguments))
    export_folder(contents, arguments.destination, arguments.format)
    logger.info(
        "wrote %s: %s layout, from %s", arguments.destination, arguments.format, contents.layout
    )
    for line in contents.assumed:
        logger.info("assumed: %s", line)
    for line in contents.not_followed:
        logger.info("not followed: %s", line)
    for line in not_stored(contents.card, arguments.format):
        logger.warning("not stored in the files: %s", line)
