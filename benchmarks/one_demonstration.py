"""From 1, 5 and 50 demonstrations of one task: ``python benchmarks/one_demonstration.py``.

The embedded architecture, from random weights, is fine-tuned on the demonstrations of a scripted expert and then practices the
task with the quickstart's rule. Success on held-out episodes before and after is printed as a table. Every stage that is
on disk is taken from there, so that the program goes on where it was interrupted. The 9 runs take two hours on two cores;
``--quick`` shows in minutes that all stages run. ``--publish`` adds the finished ones to those in
``benchmarks/measured/one_demonstration.json`` and writes docs/results.md from all of them.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.parts.document import ROOT, command_line, markdown, write_section
from pi0.files import write_atomically
from pi0.ript.demos.recorder import record_all
from pi0.ript.demos.settings import DemoSettings
from pi0.ript.report.jsonl import METRICS_NAME, read_metrics
from pi0.ript.report.summary import SUMMARY_NAME
from pi0.ript.run_folder import SFT_NAME, newest_run_in
from pi0.ript.scripts.exits import run_main
from pi0.tiny import tiny_card

SUITE, TASK_ID = "libero_goal", 7  # turn on the stove
PRACTICE_LIMIT = 120  # control steps of a rollout that is learned from
MEASURED = ROOT / "benchmarks" / "measured" / "one_demonstration.json"
SECTION = "one demonstration"
STAGES = ("time/collect_s", "time/update_s")
COMMAND = (sys.executable, "-m", "pi0.ript.scripts.cli")


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """How large it is.

    Attributes:
        counts: Demonstrations that a policy is fine-tuned on.
        seeds: Of demonstrations, weights and practice.
        num_sft_steps: Optimizer steps of each fine-tuning, whatever the number of demonstrations.
        num_train_steps: Training steps of each practice at most.
        groups: Initial states of a training step.
        episodes: Held-out episodes before and after.
    """

    counts: tuple[int, ...] = (1, 5, 50)
    seeds: tuple[int, ...] = (0, 1, 2)
    num_sft_steps: int = 270
    num_train_steps: int = 12
    groups: int = 6
    episodes: int = 100

    def demonstrations(self, count: int, seed: int) -> str:
        """Return which demonstrations a policy is fine-tuned on: others for every seed, as far as there are others."""
        first = seed * count if (seed + 1) * count <= max(self.counts) else 0
        return f"{first}:{first + count}"


QUICK = Study(counts=(1, 2), seeds=(0,), num_sft_steps=20, num_train_steps=1, groups=1, episodes=2)


def run_command(*arguments: object) -> None:
    """Run ``ript``; raise where it fails."""
    subprocess.run([*COMMAND, *map(str, arguments)], check=True)


def record(study: Study, folder: Path) -> None:
    """Record the demonstrations of the task, unless they are there."""
    if not list(folder.glob("*.safetensors")):
        settings = DemoSettings(per_task=max(study.counts))
        record_all([(SUITE, TASK_ID)], tiny_card().spec, settings, folder, num_workers=1)


def fine_tune(study: Study, demos: Path, count: int, seed: int, folder: Path) -> None:
    """Fine-tune a new policy on some demonstrations, unless that is done."""
    if (folder / "model.safetensors").is_file():
        return
    if (folder / SFT_NAME).is_file() and (folder / "checkpoints").is_dir():
        run_command("sft", "--resume", folder)
        return
    run_command(
        "sft", "--demos", demos, "--output_dir", folder, "--task_weights", 1, "--seed", seed,
        "--episodes", study.demonstrations(count, seed), "--num_steps", study.num_sft_steps, "--save_every", 100,
    )  # fmt: skip


def practice(study: Study, policy: Path, seed: int, folder: Path) -> None:
    """Practice with the quickstart's settings, unless that is done."""
    run = newest_run_in(folder)
    if run is None:
        run_command(
            "train", "quickstart", "--policy_path", policy, "--output_dir", folder, "--training.seed", seed,
            "--task.benchmark_name", SUITE, "--task.task_name", TASK_ID, "--task.max_episode_length", PRACTICE_LIMIT,
            "--training.num_train_steps", study.num_train_steps, "--algo.demo_batch_size", study.groups,
            "--evaluation.rollouts_per_task", study.episodes,
        )  # fmt: skip
    elif not (run / f"{SUMMARY_NAME}.json").is_file():
        run_command("train", "--resume", run)


def cell_folder(folder: Path, count: int, seed: int) -> Path:
    """Return where the policy of some demonstrations and a seed is, and its practice."""
    return folder / f"{count}_demonstrations_seed_{seed}"


def measure(study: Study, folder: Path) -> None:
    """Do what is left of every number of demonstrations and seed."""
    demos = folder / "demonstrations"
    record(study, demos)
    for seed in study.seeds:  # outermost, so that an interrupted study has whole seeds
        for count in study.counts:
            place = cell_folder(folder, count, seed)
            fine_tune(study, demos, count, seed, place / "policy")
            practice(study, place / "policy", seed, place / "runs")


def finished(study: Study, folder: Path) -> list[dict[str, Any]]:
    """Return one result per number of demonstrations and seed that has been practiced to the end."""
    cells = [(count, seed) for count in study.counts for seed in study.seeds]
    runs = [newest_run_in(cell_folder(folder, *cell) / "runs") for cell in cells]
    return [
        result(run, count, seed)
        for run, (count, seed) in zip(runs, cells, strict=True)
        if run and (run / f"{SUMMARY_NAME}.json").is_file()
    ]


def result(run: Path, count: int, seed: int) -> dict[str, Any]:
    """Return success before and after a run, and what its practice took."""
    summary = json.loads((run / f"{SUMMARY_NAME}.json").read_text())
    (row,) = summary["tasks"].values()
    lines = read_metrics(run / METRICS_NAME)
    return {
        "count": count,
        "seed": seed,
        **{name: row[name] for name in ("base", "trained", "change")},
        "steps": len(lines),
        "env_steps": int(lines[-1]["train/num_env_steps"] or 0),
        "minutes": sum(float(line[stage] or 0) for line in lines for stage in STAGES) / 60,
    }


def merged(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return all results, the new one where both have one, in the order of demonstrations and seeds."""
    found = {(each["count"], each["seed"]): each for each in (*old, *new)}
    return [found[cell] for cell in sorted(found)]


def table(results: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table: a row per number of demonstrations and seed."""
    header = [
        "demonstrations", "seed", "fine-tuned", "practiced", "change, points", "p", "n", "steps", "simulator steps",
        "minutes",
    ]  # fmt: skip
    return markdown(header, [_cells(each) for each in results])


def _cells(result: dict[str, Any]) -> list[str]:
    change = result["change"]
    difference, low, high = (100 * change[key] for key in ("difference", "low", "high"))
    return [
        str(result["count"]),
        str(result["seed"]),
        _rate(result["base"]),
        _rate(result["trained"]),
        f"{difference:+.0f} [{low:+.0f}, {high:+.0f}]",
        f"{change['p_value']:.2g}",
        str(result["trained"]["n"]),
        str(result["steps"]),
        f"{result['env_steps']:,}",
        f"{result['minutes']:.1f}",
    ]


def _rate(rate: dict[str, Any]) -> str:
    return f"{100 * rate['rate']:.0f} % [{100 * rate['low']:.0f}, {100 * rate['high']:.0f}]"


def means(results: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line per number of demonstrations: the means over its seeds."""
    lines: list[str] = []
    for count in sorted({each["count"] for each in results}):
        some = [each for each in results if each["count"] == count]
        rates = [[100 * each[name]["rate"] for each in some] for name in ("base", "trained")]
        before, after = (sum(each) / len(some) for each in rates)
        seeds = "one seed" if len(some) == 1 else f"mean of {len(some)} seeds"
        word = "demonstration" if count == 1 else "demonstrations"
        lines.append(f"- {count} {word}, {seeds}: {before:.0f} % to {after:.0f} %.")
    return lines


def publish(results: Sequence[dict[str, Any]]) -> None:
    """Keep the results and write their section of docs/results.md."""
    every = merged(json.loads(MEASURED.read_text()) if MEASURED.is_file() else [], results)
    write_atomically(MEASURED, json.dumps(every, indent=1) + "\n")
    lines = [*means(every), *table(every), f"Measured by `{command_line(ROOT)}`."]
    write_section(ROOT / "docs" / "results.md", SECTION, lines)


def main(argv: Sequence[str]) -> None:
    """Run what is left of the study and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only show that all stages run")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/one_demonstration"))
    parser.add_argument("--seeds", nargs="+", type=int, help="default: all")
    parser.add_argument("--publish", action="store_true", help="write docs/results.md")
    arguments = parser.parse_args(argv)
    whole = QUICK if arguments.quick else Study()
    study = replace(whole, seeds=tuple(arguments.seeds)) if arguments.seeds else whole
    measure(study, arguments.output_dir)
    results = finished(whole, arguments.output_dir)
    print("\n".join(table(results)))
    if arguments.publish:
        publish(results)


if __name__ == "__main__":
    run_main(main)
