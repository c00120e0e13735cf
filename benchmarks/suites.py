"""Practice on whole suites: ``python benchmarks/suites.py --output_dir DIR [--publish]``.

Every suite's recipe is trained through the program that users run, which measures the policy before, on the way and after;
then both policies run more episodes of every task, and of LIBERO-PRO's variants of them. An interrupted program goes on
where it was. ``--publish`` adds the runs of the folder to those in ``benchmarks/measured/suites.json``, where every outcome is
kept, and writes docs/results.md from all of them.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.parts.document import ROOT, command_line
from benchmarks.training.suites_report import PRACTICE, overview, publish
from benchmarks.training.suites_runs import SuiteRun, dump, load, merged
from pi0.files import write_atomically

SUITES = ("libero_object", "libero_spatial", "libero_goal")
CONTROLS = ("permuted", "flipped")
MEASURED = ROOT / "benchmarks" / "measured" / "suites.json"


def parse() -> tuple[argparse.Namespace, list[str]]:
    """Return flags, and those that are not known here, which are passed on to every new run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--suites", nargs="*", default=list(SUITES), choices=SUITES)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--arm", default=PRACTICE, choices=(PRACTICE, *CONTROLS))
    parser.add_argument(
        "--label", default="", help="name of runs with other options than the recipe's"
    )
    parser.add_argument("--episodes", type=int, default=50, help="of every task in the last table")
    parser.add_argument("--variant_episodes", type=int, default=0, help="of every task's variants")
    parser.add_argument(
        "--summary", action="store_true", help="measure nothing, take what is there"
    )
    parser.add_argument("--publish", action="store_true", help="write docs/results.md")
    return parser.parse_known_args()


def main() -> None:
    """Do what is left and print what the folder holds."""
    given, extra = parse()
    runs = [
        SuiteRun(
            suite=suite,
            seed=seed,
            arm=given.arm,
            label=given.label,
            options=tuple(extra),
            output=given.output_dir,
        )
        for suite in given.suites
        for seed in given.seeds
    ]
    for run in () if given.summary else runs:
        run.train()
        run.evaluate(given.episodes, given.variant_episodes)
    results = [result for run in runs if (result := run.result()) is not None]
    print("\n".join(overview(results)))
    if given.publish:
        every = merged(load(MEASURED), results)
        write_atomically(MEASURED, dump(every))
        MEASURED.parent.mkdir(exist_ok=True)
        command = command_line(ROOT)
        publish(every, command)


if __name__ == "__main__":
    main()
