"""How far training carries over to other tasks: ``python benchmarks/generalization.py --trained outputs/<run>``.

Base and trained policy on the embedded policy's tasks, as LIBERO has them and in the variants of
LIBERO-PRO, on the same episodes; the table goes into docs/results.md. Interrupted, it goes on where
it was when started again.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.document import markdown, write_section
from benchmarks.job import ROOT
from pi0.ript.scripts import eval as evaluation
from pi0.ript.scripts.exits import run_main

DOCUMENT = ROOT / "docs" / "results.md"
SECTION = "generalization"
TASKS = (("libero_goal", 7), ("libero_goal", 1), ("libero_goal", 6), ("libero_object", 0))
VARIANTS = ("", "_lan", "_object", "_swap", "_task")
MAX_STEPS = 110  # the experts need 55 to 98
POLICY_OF_RUN = Path("checkpoints/last/pretrained_model")


def policy_folder(path: str) -> str:
    """Return the newest policy of a run directory; a policy stays as it is."""
    inside = Path(path) / POLICY_OF_RUN
    return str(inside) if inside.is_dir() else path


def measure(policy: str, episodes: int, folder: Path, *more: str) -> dict[str, Any]:
    """Evaluate a policy on every cell of the table, or finish doing so, and return its results."""
    tasks = [f"{suite}{variant}/{task}" for suite, task in TASKS for variant in VARIANTS]
    status = evaluation.main(
        ["--policy", policy, "--suite", TASKS[0][0], "--tasks", *tasks, "--episodes", str(episodes),
         "--max_episode_length", str(MAX_STEPS), "--output_dir", str(folder), *more]
    )  # fmt: skip
    if status:
        raise RuntimeError(f"episodes of {policy} crashed; start the program again to retry them")
    return json.loads((folder / "results.json").read_text())


def table(results: dict[str, Any]) -> list[str]:
    """Return the trained policy's comparison with the base, variants of a task together."""
    found = {row["name"].split()[0]: row for row in results["comparison"]["rows"]}
    header = ["task", "instruction", "base", "trained", "change, points", "gained / lost", "p", "n"]
    rows = [found[f"{suite}{variant}/{task}"] for suite, task in TASKS for variant in VARIANTS]
    return markdown(header, [_cells(row) for row in rows])


def publish(results: dict[str, Any], command: str) -> None:
    """Put the table between its marks in the document."""
    settings = results["settings"]
    versions = settings["versions"]
    lines = [
        f"Measured by `{command}`: held-out initial states, seed {settings['seed']}, "
        f"{settings['denoise_steps']} denoise steps, at most {MAX_STEPS} control steps, "
        f"MuJoCo {versions['mujoco']}, torch {versions['torch']}; 95 % Wilson intervals, McNemar's exact test.",
        *table(results),
    ]
    write_section(DOCUMENT, SECTION, lines)


def _cells(row: dict[str, Any]) -> list[str]:
    name, _, instruction = row["name"].partition(" ")
    change = row["change"]
    difference, low, high = (100 * change[key] for key in ("difference", "low", "high"))
    return [
        f"`{name}`",
        _ascii(instruction),
        _rate(row["other"]),
        _rate(row["this"]),
        f"{difference:+.0f} [{low:+.0f}, {high:+.0f}]",
        f"{change['num_gained']} / {change['num_lost']}",
        f"{change['p_value']:.2g}",
        str(row["this"]["n"]),
    ]


def _rate(rate: dict[str, Any]) -> str:
    return f"{100 * rate['rate']:.0f} % [{100 * rate['low']:.0f}, {100 * rate['high']:.0f}]"


def _ascii(text: str) -> str:
    return text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")


def main(argv: Sequence[str]) -> None:
    """Measure both policies and publish the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="builtin", help="builtin or a checkpoint folder")
    parser.add_argument("--trained", required=True, help="a run directory or a checkpoint folder")
    parser.add_argument("--episodes", type=int, default=50, help="per task and policy")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/generalization"))
    parser.add_argument("--no_publish", action="store_true", help="leave docs/results.md alone")
    arguments = parser.parse_args(argv)
    base, trained = arguments.output_dir / "base", arguments.output_dir / "trained"
    measure(policy_folder(arguments.base), arguments.episodes, base)
    results = measure(
        policy_folder(arguments.trained), arguments.episodes, trained, "--compare", str(base)
    )
    print("\n".join(table(results)))
    if not arguments.no_publish:
        publish(
            results,
            "python benchmarks/generalization.py --trained outputs/<run> "
            f"--episodes {arguments.episodes}",
        )


if __name__ == "__main__":
    run_main(main)
