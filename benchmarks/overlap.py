"""RIPT steps per hour with and without collecting one step ahead (``training.overlap``).

    python benchmarks/overlap.py [--quick] [--json FILE]

The learner has one core and the simulators another, as on a machine whose learner is a GPU: nobody gains by
the other's rest. Passes over the batch (``algo.num_epochs``) are chosen so that an update takes as long as
the rollouts of a step. The learning rate is one that float32 rounds to nothing, so both sides do the same
work on the same episodes; metrics that differ in any bit end the program with status 1.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

from rich.console import Console

from benchmarks.parts.measure import add_output_arguments, table, write_json
from pi0.policy import Pi0Policy
from pi0.ript.build import build_trainer
from pi0.ript.build_policy import build_policy
from pi0.ript.config.load import read_config
from pi0.ript.config.schema import TrainConfig
from pi0.ript.env.runner import EnvRunner
from pi0.ript.scripts.train_ript_pi0 import create_env_runner

QUICKSTART = Path(__file__).parents[1] / "pi0/ript/config/quickstart.yaml"
UNMOVED = 1e-300  # learning rate
NUM_SLOTS = 8
MODES = {"in turn": False, "one ahead": True}
MACHINE_DEPENDENT = ("time/", "speed/", "memory/")
OWN = ("rollout/staleness_updates",)


def settings(num_steps: int, num_epochs: int, *, overlap: bool) -> TrainConfig:
    """Return the quickstart with two groups of eight per step and weights that do not move."""
    config = read_config(QUICKSTART)
    return replace(
        config,
        task=replace(config.task, num_parallel_envs=NUM_SLOTS, max_episode_length=60),
        env=replace(config.env, num_workers=1),
        algo=replace(
            config.algo,
            objective="flow_sde",
            replay_steps=0,
            demo_batch_size=2,
            num_epochs=num_epochs,
            num_minibatches=1,
            lr=UNMOVED,
            kl_stop=None,
        ),
        training=replace(
            config.training,
            num_train_steps=num_steps,
            save_freq=num_steps,
            target_success=None,
            overlap=overlap,
        ),
        logging=replace(config.logging, tensorboard=False),
    )


def run(config: TrainConfig, policy: Pi0Policy, runner: EnvRunner) -> dict[str, Any]:
    """Train and return the wall seconds and the metrics of every step."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        console = Console(quiet=True)
        trainer = build_trainer(config, policy, runner, run_dir, None, console)
        started = time.perf_counter()
        with closing(trainer):
            trainer.train()
        wall_s = time.perf_counter() - started
        lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return {"wall_s": wall_s, "steps": [json.loads(line) for line in lines]}


def median(runs: list[dict[str, Any]], name: str) -> float:
    """Return the median of a metric over all steps of all runs."""
    return statistics.median(step[name] for found in runs for step in found["steps"])


def choose_num_epochs(policy: Pi0Policy, runner: EnvRunner) -> int:
    """Return the passes that take as long as the rollouts, from steps with one pass and with five.

    The first run also builds the scene and settles the initial states that all others begin with.
    """
    short, long = (run(settings(2, epochs, overlap=False), policy, runner) for epochs in (1, 5))
    one, five = (median([found], "time/update_s") for found in (short, long))
    per_epoch = max((five - one) / 4, 1e-3)
    wanted = median([long], "time/collect_s")
    return max(1, round(1 + (wanted - one) / per_epoch))


def same_work(runs: list[dict[str, Any]]) -> bool:
    """Return whether all runs had the same metrics, but for those of time and staleness."""
    kept = [
        [
            {k: v for k, v in step.items() if not k.startswith(MACHINE_DEPENDENT) and k not in OWN}
            for step in found["steps"]
        ]
        for found in runs
    ]
    return all(other == kept[0] for other in kept)


def summary(runs: dict[str, list[dict[str, Any]]], num_epochs: int) -> dict[str, Any]:
    """Return steps per hour of both sides and what their steps took."""
    rate = {
        mode: 3600 * len(found[0]["steps"]) / statistics.median(one["wall_s"] for one in found)
        for mode, found in runs.items()
    }
    return {
        "steps_per_hour": rate,
        "speedup": rate["one ahead"] / rate["in turn"],
        "num_steps": len(runs["in turn"][0]["steps"]),
        "num_epochs": num_epochs,
        "median_s": {
            mode: {
                name: median(found, f"time/{name}_s") for name in ("rollout", "update", "collect")
            }
            for mode, found in runs.items()
        },
        "wall_s": {mode: [one["wall_s"] for one in found] for mode, found in runs.items()},
    }


def report(found: dict[str, Any]) -> None:
    """Print the measurements."""
    rows = [
        [mode, rate, *(found["median_s"][mode][n] for n in ("rollout", "update", "collect"))]
        for mode, rate in found["steps_per_hour"].items()
    ]
    header = ("", "steps per hour", "rollouts, s", "update, s", "waiting for rollouts, s")
    print(table(header, rows))
    print(f"\none ahead / in turn: {found['speedup']:.2f}, {found['num_epochs']} passes per update")


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description="Steps per hour with and without overlap")
    add_output_arguments(parser)
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        parser.error("needs two cores, one for the learner and one for the simulators, got 1")
    num_steps, num_rounds = (4, 1) if arguments.quick else (6, 2)
    config = settings(num_steps, 1, overlap=False)
    policy = build_policy(config)
    os.sched_setaffinity(0, {cores[1]})  # what simulators inherit
    with create_env_runner(config, policy) as runner:
        runner.start()
        os.sched_setaffinity(0, {cores[0]})
        num_epochs = choose_num_epochs(policy, runner)
        runs: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
        for _ in range(num_rounds):
            for mode, overlap in MODES.items():
                config = settings(num_steps, num_epochs, overlap=overlap)
                runs[mode].append(run(config, policy, runner))
    os.sched_setaffinity(0, set(cores))
    if not same_work([found for side in runs.values() for found in side]):
        print("the two sides did not do the same work", file=sys.stderr)
        return 1
    found = summary(runs, num_epochs)
    report(found)
    write_json(arguments.json, found, is_quick=arguments.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
