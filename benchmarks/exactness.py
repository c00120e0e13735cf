"""Proof that the engine equals LIBERO's own ``OffScreenRenderEnv`` bit for bit.

    python benchmarks/exactness.py --quick

For every task three slots run episodes of mixed expert and random actions in random interleaving.
LIBERO's environment then takes the same actions: time, qpos and qvel after every action chunk, success
after every step, proprioception and both images at every observation must be equal. One episode is
repeated after 50 restores of its slot. Ends with status 1 on any difference.
"""

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.parts.measure import add_output_arguments, table, write_json
from benchmarks.simulator.exactness_task import Verdict, check_task

TASKS = (
    ("libero_10", 2),
    ("libero_goal", 6),
    ("libero_goal", 7),
    ("libero_goal", 0),
    ("libero_goal", 3),
    ("libero_spatial", 2),
    ("libero_spatial", 4),
    ("libero_object", 0),
    ("libero_object", 7),
    ("libero_10", 4),
    ("libero_10", 5),
    ("libero_10", 9),
    ("libero_90", 3),
    ("libero_90", 47),
)
NUM_QUICK = 2
NUM_STEPS = 150
SIZE = 256


def check_all(
    tasks: tuple[tuple[str, int], ...], num_steps: int, num_processes: int
) -> list[Verdict]:
    """Check tasks in processes of their own, so that each starts and ends with an empty memory."""
    # The images do not depend on it, and one renderer per process is enough.
    os.environ["LP_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    suites, task_ids = zip(*tasks, strict=True)
    with ProcessPoolExecutor(num_processes, get_context("spawn"), max_tasks_per_child=1) as pool:
        return list(pool.map(partial(check_task, num_steps=num_steps, size=SIZE), suites, task_ids))


def report(verdicts: list[Verdict]) -> None:
    """Print one line per task; all counts of differences should be 0."""
    header = ("task", "steps", "observations", "successes", "burner", "states differ", "proprio",
              "images", "success", "after 50 restores")  # fmt: skip
    rows = [
        [f"{v.suite} {v.task_id}", v.num_steps, v.num_observations, v.num_successes,
         "lit" if v.is_burner_lit else "", v.states, v.proprio, v.images, v.flags, v.repeated]
        for v in verdicts
    ]  # fmt: skip
    print(table(header, rows))
    steps = sum(v.num_steps for v in verdicts)
    observations = sum(v.num_observations for v in verdicts)
    print(
        f"\n{len(verdicts)} tasks, {steps} control steps, {observations} observations of two {SIZE} px cameras"
    )


def main() -> int:
    """Run the proof."""
    parser = argparse.ArgumentParser(description="Engine against LIBERO's environment, bit for bit")
    add_output_arguments(parser)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    if arguments.processes < 1:
        parser.error(f"--processes must be >= 1, got {arguments.processes}")
    tasks = TASKS[:NUM_QUICK] if arguments.quick else TASKS
    verdicts = check_all(tasks, NUM_STEPS, arguments.processes)
    report(verdicts)
    num_differences = sum(v.num_differences for v in verdicts)
    tasks_found = [{**asdict(v), "num_differences": v.num_differences} for v in verdicts]
    found = {"num_differences": num_differences, "tasks": tasks_found}
    write_json(arguments.json, found, is_quick=arguments.quick)
    print("everything is equal" if not num_differences else f"{num_differences} DIFFERENCES")
    return 1 if num_differences else 0


if __name__ == "__main__":
    sys.exit(main())
