"""Ready-set batching against lock-step: the same episodes, lengths spread 1 : 4, on one pool.

    python benchmarks/scheduler.py [--quick] [--json FILE] [--slots 16] [--workers 2]

Lock-step comes in two forms. ``resting``: a simulator whose episode has ended does nothing until the
round is over. ``stepping``: it keeps being stepped, drawn and given action chunks until the longest episode of
the round has ended, as in vector environments whose members are reset together.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

import torch

from benchmarks.parts.measure import add_output_arguments, write_json
from benchmarks.simulator.job import (
    BATCH_SIZE,
    NUM_STEPS_WAIT,
    SAMPLING,
    SETTINGS,
    TIMEOUT_S,
    FirstCameraPolicy,
    Job,
    policy_step_digest,
)
from pi0.ript.config.env import Schedule
from pi0.ript.config.schema import EnvConfig, PolicyConfig, TrainConfig
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.pi0_libero_runner_ript_vla import PI0LiberoRunner
from pi0.ript.env.pool.process_pool import ProcessPool
from pi0.ript.seeding import derive_seed
from pi0.ript.types import Episode, EpisodeRequest

SUITE, TASK_ID = "libero_goal", 7
LENGTHS = (20, 40, 60, 80)  # control steps, as many episodes of each
MODES: dict[str, Schedule] = {"ready": "ready", "resting": "lockstep", "stepping": "lockstep"}


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


def stepped_on(todo: Sequence[EpisodeRequest], slots: int) -> list[EpisodeRequest]:
    """Return the episodes as long as the longest of their round of ``slots``."""
    rounds = [todo[first : first + slots] for first in range(0, len(todo), slots)]
    longest = [max(request.max_steps for request in members) for members in rounds]
    return [
        replace(request, max_steps=steps)
        for members, steps in zip(rounds, longest, strict=True)
        for request in members
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
    """Run the episodes and return their rate, the runner's metrics and what the episodes were."""
    waiting, started = iter(todo), time.perf_counter()
    episodes = list(runner.run(lambda: next(waiting, None), SAMPLING, pool))
    wall_s = time.perf_counter() - started
    return {
        "episodes_per_minute": 60 * len(episodes) / wall_s,
        "metrics": runner.stats.metrics(wall_s),
        "digests": {episode.request.rollout: digest(episode) for episode in episodes},
    }


def digest(episode: Episode) -> list[str]:
    """Return a hash of every policy step."""
    assert episode.outcome != "crashed", episode.error
    return [policy_step_digest(d.observation, d.chunk) for d in episode.policy_steps]


def compare(
    pool: ProcessPool,
    runners: dict[Schedule, PI0LiberoRunner],
    todo: Sequence[EpisodeRequest],
    num_repeats: int,
) -> dict[str, Any]:
    """Measure all modes in turns on a warm pool and return the median rates."""
    runs: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
    for _ in range(num_repeats):
        for mode, schedule in MODES.items():
            wanted = stepped_on(todo, pool.num_slots) if mode == "stepping" else todo
            runs[mode].append(measure(runners[schedule], pool, wanted))
    _require_same_episodes([run.pop("digests") for rows in runs.values() for run in rows])
    rates = {
        mode: statistics.median(run["episodes_per_minute"] for run in rows)
        for mode, rows in runs.items()
    }
    return {
        "num_episodes": len(todo),
        "episodes_per_minute": rates,
        "ready_over_resting": rates["ready"] / rates["resting"],
        "ready_over_stepping": rates["ready"] / rates["stepping"],
        "runs": runs,
    }


def _require_same_episodes(runs: Sequence[dict[int, list[str]]]) -> None:
    """Compare all runs with the first; a simulator that is stepped on only adds to the end."""
    for run in runs[1:]:
        for rollout, wanted in runs[0].items():
            assert run[rollout][: len(wanted)] == wanted, "the schedule changed an episode"


def describe(result: dict[str, Any]) -> str:
    """Return the measurements as lines of text."""
    lines: list[str] = []
    for mode in MODES:
        metrics = result["runs"][mode][-1]["metrics"]
        busy = [f"{metrics[key]:.2f}" for key in metrics if key.endswith("_busy_share")]
        lines.append(
            f"{mode:9s} {result['episodes_per_minute'][mode]:7.1f} episodes/min"
            f"   batch fill {metrics['speed/policy_batch_fill']:.2f}   workers busy {' '.join(busy)}"
        )
    lines += [
        f"ready / lock-step, {mode}: {result[f'ready_over_{mode}']:.2f}"
        for mode in ("resting", "stepping")
    ]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str]) -> None:
    """Measure, print a table, write the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_output_arguments(parser)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)  # simulators need the cores
    num_episodes, num_repeats = (48, 1) if arguments.quick else (96, 2)
    job = SETTINGS["quickstart"](Job(side="engine", suite=SUITE, task_id=TASK_ID))
    policy = FirstCameraPolicy(job.spec, job.chunk)
    runners: dict[Schedule, PI0LiberoRunner] = {
        schedule: make_runner(schedule, policy, arguments.slots) for schedule in MODES.values()
    }
    with ProcessPool(policy.spec, arguments.slots, arguments.workers, max_scenes=1,
                     num_steps_wait=NUM_STEPS_WAIT, timeout_s=TIMEOUT_S) as pool:  # fmt: skip
        # Builds the scenes and settles the initial states.
        measure(runners["ready"], pool, requests(2 * arguments.slots, (20,)))
        results = compare(pool, runners, requests(num_episodes, LENGTHS), num_repeats)
    results |= {"slots": arguments.slots, "workers": arguments.workers}
    sys.stdout.write(describe(results))
    write_json(arguments.json, results, is_quick=arguments.quick)


if __name__ == "__main__":
    main(sys.argv[1:])
