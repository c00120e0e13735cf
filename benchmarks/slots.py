"""Throughput of the engine over the number of simulator slots, with two workers and one policy.

    python benchmarks/slots.py --quick --plot outputs/benchmarks/slots.png

Whole episodes of 100 control steps, two exact 256 px cameras unless flags differ. The sizes are
visited several times in turns, so that a busy moment of the machine does not fall on one of them.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.parts.measure import add_output_arguments, output_file, table, write_json
from benchmarks.simulator.job import SETTINGS, Job, Threads, run_job

SLOTS = (1, 2, 4, 8, 16, 32)
NUM_WORKERS = 2


def measure(job: Job, slots: Sequence[int], rounds: int) -> dict[int, list[float]]:
    """Return the control steps per second of every round for every number of slots."""
    rates: dict[int, list[float]] = {count: [] for count in slots}
    for _ in range(rounds):
        for count in slots:
            sized = replace(job, num_slots=count, num_episodes=max(job.num_episodes, 2 * count))
            sized = replace(sized, num_workers=min(NUM_WORKERS, count))
            result = run_job(sized, Threads())
            steps = sum(episode["num_steps"] for episode in result["episodes"])
            rates[count].append(steps / result["wall_s"])
            print(f"{count} slots: {rates[count][-1]:.1f} control steps per second", flush=True)
    return rates


def draw(rates: dict[int, list[float]], setting: str, path: Path) -> None:
    """Draw medians with the range of all rounds."""
    figure, axes = plt.subplots(figsize=(6, 3.5))
    medians = [statistics.median(values) for values in rates.values()]
    errors = [
        [median - min(values) for median, values in zip(medians, rates.values(), strict=True)],
        [max(values) - median for median, values in zip(medians, rates.values(), strict=True)],
    ]
    axes.errorbar(list(rates), medians, errors, fmt="o-", capsize=3)
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(rates), [str(count) for count in rates])
    axes.set(xlabel="simulator slots", ylabel="control steps per second", ylim=(0, None))
    axes.set_title(f"{setting}, {NUM_WORKERS} workers, one policy; bars: range", fontsize=9)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


def main() -> int:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description="Throughput over the number of simulator slots")
    add_output_arguments(parser)
    parser.add_argument("--plot", type=output_file, metavar="FILE", help="draw the throughput")
    parser.add_argument("--setting", choices=list(SETTINGS), default="exact", help="how to draw")
    arguments = parser.parse_args()
    job = Job(side="engine", suite="libero_goal", task_id=7, num_episodes=4)
    job = SETTINGS[arguments.setting](replace(job, max_steps=50 if arguments.quick else 100))
    rates = measure(job, SLOTS, rounds=1 if arguments.quick else 3)
    rows = [
        [count, f"{statistics.median(values):.1f}", f"{min(values):.1f} .. {max(values):.1f}"]
        for count, values in rates.items()
    ]
    print("\n" + table(("slots", "control steps per second", "range"), rows))
    found = {"setting": arguments.setting, "env_steps_per_s": {str(n): v for n, v in rates.items()}}
    write_json(arguments.json, found, is_quick=arguments.quick)
    if arguments.plot is not None:
        draw(rates, arguments.setting, arguments.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
