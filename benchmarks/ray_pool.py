"""Episodes per minute: Ray actors on this host against worker processes, as many of each.

    python benchmarks/ray_pool.py [--quick] [--json FILE] [--slots 16] [--workers 2]

Both pools do the same episodes in turns, with the embedded policy and warm scenes, raw and compressed
images. They must be the same in every bit, or the program ends with status 1. What is left of the
rate is what Ray's messages cost; wanted is at least 90 %.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

import torch

from benchmarks.parts.measure import add_output_arguments, table, write_json
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
from pi0.ript.config.env import RayConfig
from pi0.ript.config.schema import PolicyConfig, TrainConfig
from pi0.ript.env.pi0_libero_runner_ript_vla import PI0LiberoRunner
from pi0.ript.env.pool.process_pool import ProcessPool
from pi0.ript.env.ray.pool import RayPool
from pi0.ript.types import Episode, EpisodeRequest

SUITE, TASK_ID = "libero_goal", 7
MAX_STEPS = 60
ROUNDS = 3

Pool = ProcessPool | RayPool
Digests = dict[tuple[int, int], list[str]]


def measure(
    runner: PI0LiberoRunner, pool: Pool, todo: Sequence[EpisodeRequest]
) -> tuple[float, Digests]:
    """Run the episodes and return how many there were per minute, and hashes of what was observed and done."""
    waiting, started = iter(todo), time.perf_counter()
    episodes = list(runner.run(lambda: next(waiting, None), SAMPLING, pool))
    rate = 60 * len(episodes) / (time.perf_counter() - started)
    return rate, {(e.request.group, e.request.rollout): digest(e) for e in episodes}


def digest(episode: Episode) -> list[str]:
    """Return a hash of every policy step."""
    assert episode.outcome != "crashed", episode.error
    return [policy_step_digest(d.observation, d.chunk) for d in episode.policy_steps]


def open_pools(stack: ExitStack, job: Job) -> dict[str, Pool]:
    """Return one pool of each kind, closed with the stack."""
    settings: dict[str, Any] = {"num_slots": job.num_slots, "num_workers": job.num_workers,
                                "max_scenes": 1, "num_steps_wait": NUM_STEPS_WAIT,
                                "timeout_s": TIMEOUT_S}  # fmt: skip
    raw, compressed = RayConfig(), RayConfig(compress_images=True)
    return {
        "process": stack.enter_context(ProcessPool(job.spec, **settings)),
        "ray": stack.enter_context(RayPool(job.spec, **settings, ray=raw)),
        "ray, compressed": stack.enter_context(RayPool(job.spec, **settings, ray=compressed)),
    }


def compare(job: Job, num_rounds: int) -> dict[str, Any]:
    """Measure all pools in turns, so that a busy moment of the machine meets all of them."""
    policy, config = (
        FirstCameraPolicy(job.spec, job.chunk),
        TrainConfig(policy=PolicyConfig(batch_size=BATCH_SIZE)),
    )
    runner = PI0LiberoRunner(
        policy, SUITE, num_parallel_envs=job.num_slots, task_names_to_use=[TASK_ID], config=config
    )
    todo = job.requests()
    rates: dict[str, list[float]] = {}
    with ExitStack() as stack:
        pools = open_pools(stack, job)
        # Builds the scenes and settles the initial states.
        warm = {name: measure(runner, pool, todo)[1] for name, pool in pools.items()}
        for _ in range(num_rounds):
            for name, pool in pools.items():
                rate, digests = measure(runner, pool, todo)
                if digests != warm["process"]:
                    sys.exit(f"error: {name} gave other episodes than the process pool")
                rates.setdefault(name, []).append(rate)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "episodes_per_minute": medians,
        "share_of_process": {name: rate / medians["process"] for name, rate in medians.items()},
        "samples": rates,
        "num_episodes": len(todo),
        "slots": job.num_slots,
        "workers": job.num_workers,
        "image_size": job.size,
        "cameras": len(job.cameras),
    }


def describe(results: dict[str, Any]) -> str:
    """Return the measurements as a table."""
    rates, shares = results["episodes_per_minute"], results["share_of_process"]
    rows = [(name, rates[name], f"{100 * shares[name]:.1f} %") for name in rates]
    return table(("pool", "episodes/min", "of process"), rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_output_arguments(parser)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--images", choices=sorted(SETTINGS), default="quickstart")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)  # simulators need the cores
    job = SETTINGS[arguments.images](
        Job(
            side="engine",
            suite=SUITE,
            task_id=TASK_ID,
            num_slots=arguments.slots,
            num_workers=arguments.workers,
            num_episodes=arguments.slots * (1 if arguments.quick else 2),
            max_steps=MAX_STEPS,
        )
    )
    results = compare(job, 1 if arguments.quick else ROUNDS)
    print(describe(results))
    write_json(arguments.json, results, is_quick=arguments.quick)


if __name__ == "__main__":
    main()
