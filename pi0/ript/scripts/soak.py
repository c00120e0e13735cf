"""Train while workers are killed, stopped and corrupted, and show that nothing is lost.

A configuration (default debug_train_ript_vla) and its settings are given as in ``ript train``.

Examples:
    ript soak --minutes 1 --json soak.json
    ript soak --minutes 30 --seed 1 --json soak.json --task.num_parallel_envs 4
    ript soak quickstart --minutes 30 --trainer_kills 2 --json soak.json --output_dir outputs/soak
"""

import argparse
import math
import os
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pi0.files import write_atomically
from pi0.ript.config.command_line import parse_arguments
from pi0.ript.config.load import load_launch
from pi0.ript.faults.inject import FaultKind, plan_faults
from pi0.ript.faults.soak import (
    DISTURBED,
    ENDLESS,
    UNDISTURBED,
    SoakResult,
    soak,
    training_arguments,
)
from pi0.ript.scripts.parts.flags import Parser, require_number, require_output_file

DEFAULT_CONFIG = "debug_train_ript_vla"
KILLS_PER_MINUTE, STOPS_PER_MINUTE, CORRUPTIONS_PER_MINUTE = 100 / 30, 1.0, 0.5


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the parsed command line and what is passed on to the training run.

    Both runs take long, so whatever would be refused after them, or by them, is refused here.

    Raises:
        ValueError: A flag or a setting is wrong, or an earlier soak is in the way.
        OSError: The file for the result cannot be written, or there is no such configuration.
    """
    parser = Parser(
        "ript soak",
        __doc__,
        "ript soak [NAME] --minutes N --json FILE [options] [--<key> VALUE] ...",
    )
    parser.add_argument("--minutes", type=float, required=True, help="of the disturbed run")
    parser.add_argument("--seed", type=int, default=0, help="decides every fault")
    parser.add_argument("--json", type=Path, required=True, help="receives what was found")
    parser.add_argument("--kills", type=int, help="SIGKILLs of workers; default 100 in 30 minutes")
    parser.add_argument("--stops", type=int, help="SIGSTOPs of workers; default 30 in 30 minutes")
    parser.add_argument(
        "--corruptions", type=int, help="workers that send malformed replies; default 15 in 30"
    )
    parser.add_argument("--trainer_kills", type=int, default=0, help="SIGKILLs of the trainer")
    parser.add_argument("--output_dir", type=Path, help="keeps both runs; default: not kept")
    arguments, settings = parser.parse_known_args(argv)
    if not (arguments.minutes > 0 and math.isfinite(arguments.minutes)):
        raise ValueError(f"--minutes must be finite and > 0, got {arguments.minutes}")
    for name in ("kills", "stops", "corruptions", "trainer_kills"):
        require_number(arguments, name, least=0)
    given = parse_arguments(settings)
    if given.config_path is None:
        settings = [DEFAULT_CONFIG, *settings]
    for flag, is_given in (
        ("--resume", given.resume is not None),
        ("--check", given.is_check),
        ("--print_config", given.is_print),
    ):
        if is_given:
            raise ValueError(f"{flag} is for ript train; a soak makes two new runs, leave it out")
    load_launch(training_arguments(Path(DISTURBED), settings, ENDLESS), os.environ)
    _require_no_earlier(arguments.output_dir)
    require_output_file(arguments, "json")
    return arguments, settings


def _require_no_earlier(folder: Path | None) -> None:
    """Refuse a folder with runs of another soak, which a training would resume."""
    runs = [] if folder is None else [folder / name for name in (DISTURBED, UNDISTURBED)]
    if left := [run for run in runs if run.exists()]:
        raise ValueError(
            f"--output_dir {folder} holds an earlier soak; choose another folder, or remove its runs with: "
            f"rm -r {shlex.join(map(str, left))}"
        )


def fault_counts(arguments: argparse.Namespace) -> dict[FaultKind, int]:
    """Return how often each fault is done; what was not said grows with the minutes."""
    minutes = arguments.minutes

    def count(given: int | None, per_minute: float) -> int:
        return round(per_minute * minutes) if given is None else given

    return {
        "kill": count(arguments.kills, KILLS_PER_MINUTE),
        "stop": count(arguments.stops, STOPS_PER_MINUTE),
        "corrupt": count(arguments.corruptions, CORRUPTIONS_PER_MINUTE),
        "trainer_kill": arguments.trainer_kills,
    }


def report(result: SoakResult) -> str:
    """Return the outcome in words."""
    c = result.comparison
    return (
        f"{result.kills} kills, {result.stops} stops, {result.corruptions} corruptions, "
        f"{result.trainer_kills} trainer kills in {result.minutes:.1f} minutes and {result.steps} steps\n"
        f"of {c.num_episodes} episodes {c.lost_episodes} lost, {c.repeated_episodes} repeated, "
        f"{c.differing_episodes} differ; {c.differing_metrics} lines of metrics and "
        f"{c.differing_weights} files of weights differ\n"
        f"{result.orphans} orphans, {result.leaked_segments} leaked segments, "
        f"{result.unexpected_exits} unexpected exits"
    )


def main(argv: Sequence[str]) -> int:
    """Parse, soak, report; status 1 if anything was lost."""
    arguments, settings = parse(argv)
    plan = plan_faults(arguments.seed, arguments.minutes, fault_counts(arguments))
    with tempfile.TemporaryDirectory(prefix="ript-soak-") as temporary:
        folder = arguments.output_dir or Path(temporary)
        result = soak(folder, settings, plan, arguments.minutes)
    print(report(result))  # first: the file may fail
    write_atomically(arguments.json, result.to_json())
    return 0 if result.is_unharmed else 1
