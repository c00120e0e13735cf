"""Re-play the rollouts that a run or an evaluation saved, draw every control step, and write a LeRobotDataset.

Physics repeat exactly, so that training and evaluations draw what policies need and nothing more; the rest is drawn
here, once, in any size. Rollouts are saved by ``--rollouts.save`` of ript train and ``--save_rollouts`` of ript eval.

Examples:
    ript replay outputs/RUN --output_dir lerobot_set
    ript replay outputs/RUN --output_dir lerobot_set --steps 20: --outcome all --images png
"""

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path

from pi0.ript.datasets.frames import episode_slice
from pi0.ript.datasets.writer import require_free, write_lerobot
from pi0.ript.demos.rollout_replayer import replay_all
from pi0.ript.report.action_log import read_rollouts
from pi0.ript.scripts.parts.dataset_flags import add_dataset_flags, recordings_for, spec_and_layout
from pi0.ript.scripts.parts.flags import Parser, require_number

logger = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> None:
    """Choose, re-play, write."""
    parser = Parser("ript replay", __doc__)
    parser.add_argument(
        "source", type=Path, help="a run directory, or the --output_dir of an evaluation"
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="receives the data set")
    parser.add_argument(
        "--format", choices=("lerobot",), default="lerobot", help="LeRobotDataset v3.0"
    )
    parser.add_argument(
        "--steps",
        default=":",
        metavar="FIRST:END",
        help="training steps, END not among them; default all",
    )
    parser.add_argument(
        "--outcome", choices=("successes", "all"), default="successes", help="default %(default)s"
    )
    parser.add_argument(
        "--num_workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="processes; default: one per core",
    )
    add_dataset_flags(parser)
    arguments = parser.parse_args(argv)
    for name in ("num_workers", "fps", "render_size"):
        require_number(arguments, name, least=1)
    steps, source, folder = (
        episode_slice(arguments.steps, "--steps"),
        arguments.source,
        arguments.output_dir.resolve(),
    )
    require_free(folder)
    spec, layout = spec_and_layout(arguments)
    rollouts = read_rollouts(source)
    first, end = steps.start or 0, math.inf if steps.stop is None else steps.stop
    wanted = [
        position
        for position, rollout in enumerate(rollouts)
        if first <= rollout.step < end and (rollout.is_success or arguments.outcome == "all")
    ]
    if not wanted:
        raise ValueError(
            f"{source}: none of {len(rollouts)} saved rollouts is wanted (--steps {arguments.steps}, --outcome "
            f"{arguments.outcome}); nothing was written"
        )
    logger.info("re-playing %d of %d saved rollouts", len(wanted), len(rollouts))
    with recordings_for(folder) as recordings:
        replay_all(source, wanted, spec, recordings.folder, arguments.num_workers)
        count = write_lerobot(folder, recordings.take(), layout)
    logger.info("%s: %d episodes", folder, count)
