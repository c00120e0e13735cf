"""Measure a policy on LIBERO, on initial states that it was never trained on.

Every finished episode is on disk at once; the same command with the same --output_dir goes on where
an interrupted one stopped.

Examples:
    ript eval --suite libero_goal --tasks 7 --episodes 20
    ript eval --policy DIR --suite libero_goal,libero_goal_lan --compare builtin
    ript eval --policy DIR --suite libero_spatial --save_videos 3 --output_dir outputs/spatial
"""

import argparse
import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import get_args

from rich.console import Console

from pi0.checkpoint import find_folder
from pi0.formats.folder import Choices, read_folder
from pi0.ript.config.base import Auto
from pi0.ript.config.env import EnvConfig, Exactness
from pi0.ript.config.schema import SavedRollouts, TaskConfig, VideoConfig
from pi0.ript.config.task import MAX_NUMPY_SEED, STATES_PER_TASK, Fixtures
from pi0.ript.env.suites import chosen_tasks
from pi0.ript.evaluation.log import read_log
from pi0.ript.evaluation.results import compare, find_results, make_report
from pi0.ript.packed_frames import VideoRate
from pi0.ript.report.console import setup_logging
from pi0.ript.report.evaluation_report import (
    RESULTS_NAME,
    Comparison,
    crash_line,
    evaluation_page,
    text_lines,
    write_report,
)
from pi0.ript.report.other_harnesses import FILES, Harness, write_for
from pi0.ript.scripts.parts.evaluate_policy import Evaluation, evaluate_policy
from pi0.ript.scripts.parts.flags import Parser, add_seed_and_device, require_number
from pi0.ript.scripts.parts.policy_flags import add_policy_flags

logger = logging.getLogger(__name__)

COMPARED = "compared"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line.

    Raises:
        ValueError: A number is out of range, or a suite or task does not exist.
    """
    parser = Parser("ript eval", __doc__)
    _add_episodes(parser)
    _add_policies(parser)
    add_policy_flags(parser)
    add_seed_and_device(parser)
    _add_simulators(parser)
    _add_output(parser)
    arguments = parser.parse_args(argv)
    for name in ("episodes", "num_parallel_envs", "max_episode_length", "denoise_steps"):
        require_number(arguments, name, least=1)
    require_number(arguments, "held_out_states", least=1, most=STATES_PER_TASK)
    require_number(arguments, "save_videos", least=0)
    require_number(arguments, "fixture_seed", least=0, most=MAX_NUMPY_SEED - 1)
    if arguments.fixture_seed is not None and arguments.fixtures != "fixed":
        raise ValueError(
            f"--fixture_seed {arguments.fixture_seed} needs --fixtures fixed: with {arguments.fixtures} "
            "every episode draws its own"
        )
    arguments.tasks = chosen_tasks(arguments.suite, arguments.tasks)
    return arguments


def _add_episodes(parser: argparse.ArgumentParser) -> None:
    """Add which episodes are run."""
    defaults = TaskConfig()
    group = parser.add_argument_group("episodes")
    group.add_argument("--suite", required=True, help="one or more suites, separated by commas")
    group.add_argument("--tasks", nargs="*", default=[], help="names or indices; default all")
    group.add_argument("--episodes", type=int, default=50, help="per task; default %(default)s")
    group.add_argument(
        "--initial_states",
        choices=("held_out", "all"),
        default="held_out",
        help="held_out: the last ones of LIBERO's 50, never trained on; "
        "all: from the first on, as published results do",
    )
    group.add_argument(
        "--held_out_states",
        type=int,
        default=defaults.num_held_out_states,
        help="how many of the last ones are held out; default %(default)s",
    )
    group.add_argument(
        "--fixtures",
        choices=get_args(Fixtures),
        default=defaults.fixtures,
        help="per_episode: drawn for every episode, as published results do; fixed: the same in all; "
        "default %(default)s",
    )
    group.add_argument(
        "--fixture_seed",
        type=int,
        default=defaults.fixture_seed,
        help="where fixtures stand with --fixtures fixed; default 0",
    )
    group.add_argument(
        "--max_episode_length",
        type=int,
        default=None,
        help="default: the suite's limit in the policy's protocol",
    )
    group.add_argument(
        "--control",
        choices=("none", "blind", "mute"),
        default="none",
        help="blind: gray images; mute: every task gets the instruction of the next one",
    )


def _add_policies(parser: argparse.ArgumentParser) -> None:
    """Add which policies run them, and where."""
    group = parser.add_argument_group("policies")
    group.add_argument("--policy", default="builtin", help="builtin or a checkpoint folder")
    group.add_argument(
        "--compare",
        metavar="RESULTS_OR_POLICY",
        help="an --output_dir of an earlier evaluation, or a policy to evaluate as well",
    )
    group.add_argument(
        "--denoise_steps", type=int, default=None, help="default: what the policy is meant for"
    )


def _add_simulators(parser: argparse.ArgumentParser) -> None:
    """Add how they are simulated."""
    defaults = TaskConfig()
    group = parser.add_argument_group("simulators")
    group.add_argument(
        "--num_parallel_envs",
        type=number_or_auto,
        default=defaults.num_parallel_envs,
        help="simulator slots, or auto",
    )
    group.add_argument(
        "--exactness",
        choices=get_args(Exactness),
        default=EnvConfig().exactness,
        help="compare the first scene of every simulator process with LIBERO's own environment: check ends with "
        "an error where they differ, warn goes on, skip does not look; default %(default)s",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    """Add what is written, and where."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--save_videos", type=int, default=0, help="episodes recorded as videos per task"
    )
    group.add_argument(
        "--video_rate",
        choices=get_args(VideoRate),
        default=VideoConfig().rate,
        help="decisions: images that are drawn anyway; steps: one more per control step",
    )
    group.add_argument(
        "--save_rollouts",
        choices=get_args(SavedRollouts),
        default="none",
        help="keep executed actions in rollouts.jsonl, for ript replay; default %(default)s",
    )
    group.add_argument(
        "--also",
        type=harnesses,
        default=[],
        metavar="HARNESS,...",
        help="write the results as other harnesses do as well: lerobot (eval_info.json), vla-eval "
        "(SUITE_aggregate.json)",
    )
    group.add_argument("--output_dir", type=Path, default=None, help="default: outputs/eval_<time>")


def number_or_auto(text: str) -> int | Auto:
    """Return a whole number, or ``auto`` as it stands."""
    if text == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a whole number or auto, got {text!r}") from error


def harnesses(text: str) -> list[Harness]:
    """Return the harnesses that a list with commas names."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in FILES:
            raise argparse.ArgumentTypeError(f"must be of {', '.join(FILES)}, got {name!r}")
    return [harness for harness in FILES if harness in names]


def read_compared(other: str | None) -> Evaluation | None:
    """Return the results that ``--compare`` names; None without it, and for a policy to evaluate.

    Raises:
        ValueError: It names a file that is neither, or a folder without a policy.
        FileNotFoundError: There is nothing of that name.
    """
    if other is None:
        return None
    log = find_results(other)
    if log is not None:
        return Evaluation(*read_log(log))
    try:
        folder = find_folder(other)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"--compare {other!r} does not exist; use the --output_dir of an earlier evaluation, "
            "builtin or a checkpoint folder"
        ) from None
    read_folder(folder, Choices())  # before the first episode rather than after the last
    return None


def compared_with(
    arguments: argparse.Namespace, folder: Path, evaluation: Evaluation, earlier: Evaluation | None
) -> Comparison | None:
    """Return the comparison with the earlier results, or with a policy on the same episodes.

    None without ``--compare``.
    """
    other = arguments.compare
    if other is None:
        return None
    compared = earlier or evaluate_policy(arguments, other, folder / COMPARED, is_other=True)
    return compare(*evaluation, other, *compared)


def main(argv: Sequence[str]) -> int:
    """Evaluate, print the table, write JSON, CSV, Markdown and a page; 1 if an episode crashed."""
    arguments = parse(argv)
    earlier = read_compared(arguments.compare)
    setup_logging("INFO", Console(stderr=True))
    stamp = datetime.now().astimezone().strftime("%Y%m%d_%H%M%S")
    folder = arguments.output_dir or Path("outputs") / f"eval_{stamp}"
    evaluation = evaluate_policy(arguments, arguments.policy, folder, earlier=earlier)
    report = make_report(*evaluation, compared_with(arguments, folder, evaluation, earlier))
    write_report(folder, report, evaluation_page)
    for harness in arguments.also:
        for path in write_for(harness, folder, report):
            logger.info("%s: %s", harness, path)
    print("\n".join(text_lines(report)))
    logger.info("results: %s", folder / f"{RESULTS_NAME}.html")
    if report.num_crashed:
        logger.error("%s", crash_line(report))
    return 1 if report.num_crashed else 0
