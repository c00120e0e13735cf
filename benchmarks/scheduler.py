"""Ready-set batching against lock-step: the same episodes, lengths spread 1 : 4, on one pool.

python -m benchmarks.scheduler [--quick] [--json FILE] [--slots 16] [--workers 2]
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.job import BATCH_SIZE, SAMPLING, SETTINGS, FirstCameraPolicy, Job, decision_digest
from pi0.ript.config.schema import EnvConfig, PolicyConfig, Schedule, TrainConfig
from pi0.ript.env.pi0_libero_runner_ript_vla import PI0LiberoRunner
from pi0.ript.env.pool import ProcessPool
from pi0.ript.env.suites import make_initial_state
from pi0.ript.seeding import derive_seed
from pi0.ript.types import Episode, EpisodeRequest

SUITE, TASK_ID = "libero_goal", 7
# Control steps, 1 : 4; skewed as in practice, where most episodes succeed and some run to the limit.
LENGTHS = {"even": (20, 40, 60, 80), "skewed": (20, 20, 20, 80)}
SCHEDULES: tuple[Schedule, ...] = ("ready", "lockstep")


def requests(num_episodes: int, lengths: Sequence[int]) -> list[EpisodeRequest]:
    """Return episodes of the lengths in turn, put into a fixed random order."""
    order = sorted(range(num_episodes), key=lambda n: derive_seed("order", n))
    return [
        EpisodeRequest(
            initial_state=make_initial_state(SUITE, TASK_ID, n % 8, fixture_seed=0),
            seed=derive_seed("scheduler", n),
            max_steps=lengths[n % len(lengths)],
            rollout=n,
        )
        for n in order
    ]


def make_runner(schedule: Schedule, policy: FirstCameraPolicy, slots: int) -> PI0LiberoRunner:
    """Return a runner that differs from another one in its schedule only."""
    config = TrainConfig(
        env=EnvConfig(schedule=schedule), policy=PolicyConfig(batch_size=BATCH_SIZE)
    )
    return PI0LiberoRunner(
        policy, SUITE, num_parallel_envs=slots, task_names_to_use=[TASK_ID], config=config
    )


def measure(
    runner: PI0LiberoRunner, pool: ProcessPool, todo: Sequence[EpisodeRequest]
) -> dict[str, Any]:
    """Run the episodes and return their rate, the runner's figures and what the episodes were."""
    waiting, started = iter(todo), time.perf_counter()
    episodes = list(runner.run(lambda: next(waiting, None), SAMPLING, pool))
    wall_s = time.perf_counter() - started
    return {
        "episodes_per_minute": 60 * len(episodes) / wall_s,
        "metrics": runner.stats.metrics(wall_s),
        "digests": {episode.request.rollout: digest(episode) for episode in episodes},
    }


def digest(episode: Episode) -> list[str]:
    """Return what was seen and answered at every decision."""
    assert episode.outcome != "crashed", episode.error
    return [decision_digest(d.observation, d.chunk) for d in episode.decisions]


def compare(
    pool: ProcessPool,
    runners: dict[Schedule, PI0LiberoRunner],
    todo: Sequence[EpisodeRequest],
    num_repeats: int,
) -> dict[str, Any]:
    """Measure both schedules in turns on a warm pool and return the median rates."""
    runs: dict[str, list[dict[str, Any]]] = {schedule: [] for schedule in runners}
    for _ in range(num_repeats):
        for schedule, runner in runners.items():
            runs[schedule].append(measure(runner, pool, todo))
    digests = [run.pop("digests") for rows in runs.values() for run in rows]
    assert all(digest == digests[0] for digest in digests), "the schedule changed an episode"
    rates = {
        schedule: statistics.median(run["episodes_per_minute"] for run in rows)
        for schedule, rows in runs.items()
    }
    return {
        "num_episodes": len(todo),
        "episodes_per_minute": rates,
        "ready_over_lockstep": rates["ready"] / rates["lockstep"],
        "runs": runs,
    }


def describe(name: str, result: dict[str, Any]) -> str:
    """Return the figures of one spread of lengths as lines of text."""
    lines: list[str] = []
    for schedule in SCHEDULES:
        metrics = result["runs"][schedule][-1]["metrics"]
        busy = [f"{metrics[key]:.2f}" for key in metrics if key.endswith("_busy_share")]
        lines.append(
            f"{name:7s} {schedule:9s} {result['episodes_per_minute'][schedule]:7.1f} episodes/min"
            f"   batch fill {metrics['speed/policy_batch_fill']:.2f}   workers busy {' '.join(busy)}"
        )
    return "\n".join(
        [*lines, f"{name:7s} ready / lockstep = {result['ready_over_lockstep']:.2f}\n"]
    )


def main(argv: Sequence[str]) -> None:
    """Measure, print a table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer episodes, one repeat")
    parser.add_argument("--json", type=Path, default=None, help="receives all figures")
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)  # simulators need the cores
    num_episodes, num_repeats = (48, 1) if arguments.quick else (96, 2)
    job = SETTINGS["quickstart"](Job(side="engine", suite=SUITE, task_id=TASK_ID))
    policy = FirstCameraPolicy(job.spec)
    runners: dict[Schedule, PI0LiberoRunner] = {
        schedule: make_runner(schedule, policy, arguments.slots) for schedule in SCHEDULES
    }
    results: dict[str, Any] = {"slots": arguments.slots, "workers": arguments.workers}
    with ProcessPool(policy.spec, arguments.slots, arguments.workers, max_scenes=1) as pool:
        # Builds the scenes and settles the initial states.
        measure(runners["ready"], pool, requests(2 * arguments.slots, (20,)))
        for name, lengths in LENGTHS.items():
            todo = requests(num_episodes, lengths)
            results[name] = compare(pool, runners, todo, num_repeats)
            sys.stdout.write(describe(name, results[name]))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
