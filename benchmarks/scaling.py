"""How fast will it be on more hosts, learners and slots? Predicted, and checked where this machine can.

    python benchmarks/scaling.py [--quick] [--json FILE] [--plot FILE] [--publish]
    python benchmarks/scaling.py --measure costs.json      the costs only
    python benchmarks/scaling.py --costs costs.json --inference-s 0.12 --batch-size 32   predictions only

Costs are measured part by part (``scaling_costs.py``), rollouts of every size that fits are measured whole
and compared with the model (``rollout_model/``), then larger layouts are predicted. ``--publish`` writes
docs/results.md and its plot.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

import torch

from benchmarks.parts.measure import add_output_arguments, output_file, table, write_json
from benchmarks.rollout_model.costs import Costs
from benchmarks.rollout_model.layout import Layout, Work
from benchmarks.rollout_model.prediction import predict
from benchmarks.simulator.job import (
    BATCH_SIZE,
    NUM_STEPS_WAIT,
    SETTINGS,
    TIMEOUT_S,
    FirstCameraPolicy,
    Job,
)
from benchmarks.simulator.scaling_costs import CHUNK, measure_costs, requests, run_episodes, warm_up
from benchmarks.simulator.scaling_report import draw, publish
from pi0.ript.env.pool.inline_pool import InlinePool
from pi0.ript.env.pool.process_pool import ProcessPool

SUITE, TASK_ID = "libero_goal", 7
SLOTS = (1, 2, 4, 8, 16)
HOSTS = (1, 2, 4, 8, 16, 32, 64)
LEARNERS = (1, 2, 4, 8)
FLEET_SLOTS = (8, 32, 128, 512, 4096)
CORES_PER_HOST = 16
TOLERANCE = 0.15
# Enough for a steady rate where slots are many; the model is exact about few.
ROUNDS, LEAST_EPISODES = 3, 48


def layouts() -> list[tuple[str, int, int]]:
    """Return (pool, workers, slots) of everything that this machine can run."""
    workers = [count for count in (1, 2) if count <= len(os.sched_getaffinity(0))]
    return [
        *(("process", count, slots) for count in workers for slots in SLOTS if slots >= count),
        *(("inline", 1, slots) for slots in SLOTS),
    ]


def measure(job: Job, policy: FirstCameraPolicy, kind: str, workers: int, slots: int) -> float:
    """Return the episodes per minute of a whole rollout."""
    if kind == "inline":
        pool = InlinePool(job.spec, slots, max_scenes=1, num_steps_wait=NUM_STEPS_WAIT)
    else:
        pool = ProcessPool(
            job.spec,
            slots,
            workers,
            max_scenes=1,
            num_steps_wait=NUM_STEPS_WAIT,
            timeout_s=TIMEOUT_S,
        )
    with pool:
        warm_up(pool, policy, job)
        episodes, _, wall_s = run_episodes(pool, policy, requests(job, job.num_episodes))
    assert all(e.num_steps == job.max_steps for e in episodes), "an episode ended early"
    return 60.0 * len(episodes) / wall_s


def here(kind: str, workers: int, slots: int) -> Layout:
    """Return this machine as a layout: the policy shares the cores with the simulators."""
    return Layout(
        num_slots=slots,
        workers_per_host=workers,
        # inline, simulators and policy take turns in one thread
        cores_per_host=1 if kind == "inline" else len(os.sched_getaffinity(0)),
        batch_size=BATCH_SIZE,
        infers_on_cpu=True,
    )


def validate(job: Job, policy: FirstCameraPolicy, costs: Costs) -> list[dict[str, Any]]:
    """Return measured and predicted episodes per minute of every layout that fits."""
    rows: list[dict[str, Any]] = []
    work = Work(num_episodes=job.num_episodes, num_policy_steps=job.max_steps // CHUNK, chunk=CHUNK)
    for kind, workers, slots in layouts():
        own = costs if kind == "process" else replace(costs, request_s=0.0)
        predicted = predict(own, here(kind, workers, slots), work).episodes_per_minute
        measured = measure(job, policy, kind, workers, slots)
        rows.append(
            {"pool": kind, "workers": workers, "slots": slots, "measured": measured,
             "predicted": predicted, "error": predicted / measured - 1.0}
        )  # fmt: skip
        print(f"{kind}, {workers} workers, {slots} slots: measured {measured:.1f}, "
              f"predicted {predicted:.1f}", flush=True)  # fmt: skip
    return rows


def fleet(num_policy_steps: int, costs: Costs, batch_size: int) -> list[dict[str, Any]]:
    """Return predictions for many hosts, learners and slots; every learner needs a host's share."""
    rows: list[dict[str, Any]] = []
    for hosts in HOSTS:
        for learners in (
            count for count in LEARNERS if count <= hosts or hosts * CORES_PER_HOST >= count
        ):
            for slots in (count for count in FLEET_SLOTS if count >= learners):
                layout = Layout(
                    num_hosts=hosts,
                    num_learners=learners,
                    num_slots=slots,
                    workers_per_host=CORES_PER_HOST,
                    cores_per_host=CORES_PER_HOST,
                    batch_size=batch_size,
                )
                work = Work(
                    num_episodes=max(LEAST_EPISODES, ROUNDS * slots // learners),
                    num_policy_steps=num_policy_steps,
                    chunk=CHUNK,
                )
                found = predict(costs, layout, work)
                rows.append(
                    {"hosts": hosts, "learners": learners, "slots": slots,
                     "episodes_per_minute": found.steady_episodes_per_minute,
                     "bottleneck": found.bottleneck, "busy": found.busy}
                )  # fmt: skip
    return rows


def report(found: dict[str, Any]) -> None:
    """Print the measurements as tables."""
    print(table(("cost", "value"), list(found["costs"].items())))
    if found["validation"]:
        rows = [
            [f"{r['pool']}, {r['workers']} workers", r["slots"], r["measured"], r["predicted"],
             f"{100 * r['error']:+.0f} %"]
            for r in found["validation"]
        ]  # fmt: skip
        print("\n" + table(("episodes per minute", "slots", "measured", "predicted", ""), rows))
        print(
            f"\nlargest error: {100 * found['largest_error']:.0f} %, wanted {100 * TOLERANCE:.0f} %"
        )
    rows = [
        [f"{r['hosts']} hosts, {r['learners']} learners", r["slots"], f"{r['episodes_per_minute']:.0f}",
         r["bottleneck"]]
        for r in found["fleet"]
    ]  # fmt: skip
    print("\n" + table(("predicted", "slots", "episodes per minute", "bottleneck"), rows))


def read_costs(path: Path) -> Costs:
    """Return the costs that ``--measure`` wrote."""
    return Costs(**json.loads(path.read_text())["costs"])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, compare, predict."""
    parser = argparse.ArgumentParser(description="Predicted and measured rollout throughput")
    add_output_arguments(parser)
    parser.add_argument("--measure", type=output_file, metavar="FILE", help="write the costs only")
    parser.add_argument("--costs", type=Path, metavar="FILE", help="use these costs, predict only")
    parser.add_argument("--inference-s", type=float, help="seconds of a policy call instead")
    parser.add_argument(
        "--batch-size", type=int, default=BATCH_SIZE, help="samples of a policy call"
    )
    parser.add_argument("--plot", type=output_file, metavar="FILE", help="draw the plot")
    parser.add_argument("--publish", action="store_true", help="write docs/results.md")
    arguments = parser.parse_args(argv)
    if arguments.publish and arguments.costs:
        parser.error("--publish needs measurements: leave --costs out")
    torch.set_num_threads(1)  # simulators need the cores
    job = SETTINGS["quickstart"](Job(side="engine", suite=SUITE, task_id=TASK_ID))
    job = replace(job, max_steps=50 if arguments.quick else 100, num_episodes=32)
    validation: list[dict[str, Any]] = []
    if arguments.costs:
        costs = read_costs(arguments.costs)
    else:
        policy = FirstCameraPolicy(job.spec, job.chunk)
        costs = measure_costs(job, policy, num_episodes=8 if arguments.quick else 16)
        if arguments.measure:
            write_json(arguments.measure, {"costs": asdict(costs)}, is_quick=arguments.quick)
            return 0
        validation = validate(job, policy, costs)
    if arguments.inference_s is not None:
        costs = replace(costs, inference_s=arguments.inference_s)
    found = {
        "costs": asdict(costs),
        "max_steps": job.max_steps,
        "batch_size": arguments.batch_size,
        "validation": validation,
        "largest_error": max((abs(row["error"]) for row in validation), default=0.0),
        "fleet": fleet(job.max_steps // CHUNK, costs, arguments.batch_size),
    }
    report(found)
    write_json(arguments.json, found, is_quick=arguments.quick)
    if arguments.plot is not None:
        draw(found, arguments.plot)
    if arguments.publish:
        publish(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
