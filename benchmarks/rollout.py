"""Whole episodes per minute: this engine against the two usual vector environments and the limit.

    python benchmarks/rollout.py --quick --json outputs/benchmarks/rollout.json

An episode is restore, 10 settling steps and 100 control steps with the embedded policy in chunks of
10, and with exact images also of 5. Every side has the same policy, initial states, seeds and number of
simulator processes, and draws with the same software or GPU. Vector environments are tried with all settings of
threads on short episodes and then run at least five full rounds with the best one; the median round counts,
the fastest and the slowest are its spread. Episodes that two sides share must agree in every bit of
observations and actions, or the program ends with status 1.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.parts.measure import add_output_arguments, output_file, table, write_json
from benchmarks.simulator.job import SETTINGS, Job, Side, Threads, run_job, run_together
from benchmarks.simulator.rollout_report import draw, shares

SUITE, TASK_ID = "libero_goal", 7
ONE, ALL = 1, None
# Tried on short episodes; the best one is measured in full.
THREADS = {
    "quick": (Threads(rendering=ONE, algebra=ONE), Threads(rendering=ALL, algebra=ALL)),
    "full": (
        Threads(rendering=ONE, algebra=ONE),
        Threads(rendering=ALL, algebra=ONE),
        Threads(rendering=ONE, algebra=ALL),
        Threads(rendering=ALL, algebra=ALL),
    ),
}
TRIAL_STEPS = 20
PEER_ROUNDS = {"quick": 1, "full": 5}
SHORT_CHUNK = 5


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one side did.

    Attributes:
        job: What it had to do.
        threads: Its best threads.
        result: What it reported.
        episodes_per_minute: Whole episodes per minute of wall time with its best threads.
        tried: The same with every setting of threads, of vector environments on short episodes.
        rounds: The rate of every round, of vector environments only.
    """

    job: Job
    threads: Threads
    result: dict[str, Any]
    episodes_per_minute: float
    tried: dict[str, float]
    rounds: tuple[float, ...] = ()

    @property
    def env_steps_per_s(self) -> float:
        """Return control steps per second, settling not counted."""
        steps = sum(episode["num_steps"] for episode in self.result["episodes"])
        return steps / self.result["wall_s"]


def measure_peer(side: Side, job: Job, candidates: Sequence[Threads]) -> Measured:
    """Try a vector environment with all settings of threads and measure it in full with the best one."""
    job = replace(job, side=side)
    trial = replace(job, num_episodes=job.num_workers, max_steps=TRIAL_STEPS)
    tried = {
        threads: statistics.median(round_rates(trial, run_job(trial, threads), job.max_steps))
        for threads in candidates
    }
    best = max(tried, key=tried.__getitem__)
    result = run_job(job, best)
    rates = round_rates(job, result, job.max_steps)
    return _measured(job, result, {best: statistics.median(rates)}, tried, rates)


def round_rates(job: Job, result: dict[str, Any], max_steps: int) -> list[float]:
    """Return the episodes per minute of every round, each as if its episodes had ``max_steps``."""
    rounds = [
        stages["restore_s"] + (stages["step_s"] + stages["policy_s"]) * max_steps / job.max_steps
        for stages in result["rounds"]
    ]
    return [60.0 * job.num_workers / seconds for seconds in rounds]


def measure_engine(job: Job, candidates: Sequence[Threads]) -> Measured:
    """Measure the engine; its workers use one thread each, so only the policy's are tried."""
    results = {threads: run_job(job, threads) for threads in candidates}
    tried = {t: 60.0 * job.num_episodes / result["wall_s"] for t, result in results.items()}
    return _measured(job, results[max(tried, key=tried.__getitem__)], tried, tried, ())


def _measured(
    job: Job,
    result: dict[str, Any],
    measured: dict[Threads, float],
    tried: dict[Threads, float],
    rounds: Sequence[float],
) -> Measured:
    best = max(measured, key=measured.__getitem__)
    images = f"{len(job.cameras)} x {job.size} px {job.quality}, chunks of {job.chunk}"
    for threads, rate in measured.items():
        print(f"{job.side}, {images}, {threads}: {rate:.2f} episodes per minute", flush=True)
    return Measured(
        job=job,
        threads=best,
        result=result,
        episodes_per_minute=measured[best],
        tried={str(threads): rate for threads, rate in tried.items()},
        rounds=tuple(rounds),
    )


def limit_rate(job: Job, limits: dict[str, Any], name: str, images: str = "render_s") -> float:
    """Return the episodes per minute at which every core does only what cannot be left out."""
    observing = limits[images][name] + limits["policy_s"]
    episode_s = job.max_steps * limits["physics_s"] + job.max_steps / job.chunk * observing
    return 60.0 * min(len(os.sched_getaffinity(0)), job.num_workers) / episode_s


def mean_limits(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean of what the cores measured side by side."""
    count = len(samples)
    parts = {
        part: sum(sample[part] for sample in samples) / count
        for part in ("physics_s", "policy_s", "check_s")
    }
    images = {
        part: {name: sum(s[part][name] for s in samples) / count for name in SETTINGS}
        for part in ("render_s", "mujoco_render_s")
    }
    return parts | images


def disagreements(sides: Sequence[Measured]) -> tuple[int, list[str]]:
    """Compare the episodes that sides share, bit for bit.

    Returns:
        How many pairs of episodes were compared, and a line for each pair that differs.
    """
    reference, *others = [
        {(e["group"], e["rollout"]): e for e in side.result["episodes"]} for side in sides
    ]
    pairs = [
        (side.job.side, key, episode, reference[key])
        for side, episodes in zip(sides[1:], others, strict=True)
        for key, episode in episodes.items()
        if key in reference
    ]
    wrong = [
        f"{sides[0].job.side} and {name} differ in rollout {key[1]} of state {key[0]}"
        for name, key, mine, theirs in pairs
        if mine != theirs
    ]
    return len(pairs), wrong


def spread(side: Measured) -> dict[str, float]:
    """Return the median, slowest and fastest round of a vector environment, in episodes per minute."""
    return {
        "median": side.episodes_per_minute,
        "slowest": min(side.rounds),
        "fastest": max(side.rounds),
        "rounds": len(side.rounds),
    }


def compare_short_chunks(engine: Measured, subproc: Measured) -> dict[str, Any]:
    """Measure both with their best threads where only 5 actions of a chunk are executed."""
    jobs = (replace(side.job, chunk=SHORT_CHUNK) for side in (engine, subproc))
    ours, theirs = (
        run_job(job, side.threads) for job, side in zip(jobs, (engine, subproc), strict=True)
    )
    rates = round_rates(subproc.job, theirs, subproc.job.max_steps)
    rate = 60.0 * engine.job.num_episodes / ours["wall_s"]
    return {
        "chunk": SHORT_CHUNK,
        "engine_exact": rate,
        "subproc": statistics.median(rates),
        "subproc_slowest": min(rates),
        "subproc_fastest": max(rates),
        "speedup": rate / statistics.median(rates),
    }


def summary(
    engine: dict[str, Measured],
    peers: dict[str, Measured],
    limits: dict[str, Any],
    short_chunks: dict[str, Any],
) -> dict[str, Any]:
    """Return the named numbers and everything they come from."""
    job = engine["exact"].job
    at_limit = {name: limit_rate(job, limits, name) for name in SETTINGS}
    at_mujoco = {name: limit_rate(job, limits, name, "mujoco_render_s") for name in SETTINGS}
    rate = {name: side.episodes_per_minute for name, side in engine.items()}
    subproc = peers["subproc"].episodes_per_minute
    return {
        "speedup_vs_subproc": rate["exact"] / subproc,
        "speedup_vs_async": rate["exact"] / peers["async"].episodes_per_minute,
        "fraction_of_limit": rate["exact"] / at_limit["exact"],
        "env_steps_per_s": engine["exact"].env_steps_per_s,
        "speedup_fast": rate["fast"] / subproc,
        "speedup_quickstart": rate["quickstart"] / subproc,
        "fraction_of_limit_fast": rate["fast"] / at_limit["fast"],
        "fraction_of_limit_quickstart": rate["quickstart"] / at_limit["quickstart"],
        "episodes_per_minute": {
            **{f"engine_{name}": value for name, value in rate.items()},
            **{name: side.episodes_per_minute for name, side in peers.items()},
        },
        "spread_episodes_per_minute": {name: spread(side) for name, side in peers.items()},
        "short_chunks": short_chunks,
        "limit_episodes_per_minute": at_limit,
        "limit_with_mujoco_images_episodes_per_minute": at_mujoco,
        "limit_parts_s": limits,
        "shares_of_core_time": {name: shares(side, limits, name) for name, side in engine.items()},
        "threads": {
            name: {"chosen": str(side.threads), "tried_episodes_per_minute": side.tried}
            for name, side in {**peers, "engine": engine["exact"]}.items()
        },
        "stages_s": {name: side.result["stages"] for name, side in {**peers, **engine}.items()},
    }


def report(found: dict[str, Any], num_compared: int) -> None:
    """Print the measurements as tables."""
    for side, threads in found["threads"].items():
        print(f"threads of {side}: {threads['chosen']}")
    rates, limits = found["episodes_per_minute"], found["limit_episodes_per_minute"]
    mujoco = found["limit_with_mujoco_images_episodes_per_minute"]
    rows: list[list[object]] = [
        ["SubprocVectorEnv, two 256 px cameras", rates["subproc"], *[""] * 4],
        ["AsyncVectorEnv, two 256 px cameras", rates["async"], *[""] * 4],
    ]
    titles = {
        "exact": "engine, two 256 px cameras, exact",
        "fast": "engine, two 256 px cameras, fast",
        "quickstart": "engine, one 96 px camera, fast",
    }
    for name, title in titles.items():
        rate = rates[f"engine_{name}"]
        rows.append([title, rate, f"{rate / rates['subproc']:.1f} x", limits[name],
                     f"{100 * rate / limits[name]:.0f} %", mujoco[name]])  # fmt: skip
    header = (
        "whole episodes of 100 steps",
        "per minute",
        "speed-up",
        "estimate",
        "of estimate",
        "MuJoCo estimate",
    )
    print("\n" + table(header, rows))
    for side, found_rounds in found["spread_episodes_per_minute"].items():
        print(f"{side}: {found_rounds['rounds']} rounds, {found_rounds['slowest']:.2f} to "
              f"{found_rounds['fastest']:.2f} episodes per minute")  # fmt: skip
    short = found["short_chunks"]
    print(f"chunks of {short['chunk']}, exact: {short['engine_exact']:.1f} against {short['subproc']:.2f} "
          f"({short['subproc_slowest']:.2f} to {short['subproc_fastest']:.2f}), {short['speedup']:.1f} x")  # fmt: skip
    print(f"\ncontrol steps per second, exact: {found['env_steps_per_s']:.0f}")
    parts = found["shares_of_core_time"]
    header = ("share of core time, percent", *titles)
    rows = [[part, *(f"{parts[name][part]:.1f}" for name in titles)] for part in parts["exact"]]
    print("\n" + table(header, rows))
    print(
        f"\n{num_compared} episodes of different sides agree in every bit of observations and actions"
    )


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description="Whole episodes per minute against the usual vector environments"
    )
    add_output_arguments(parser)
    parser.add_argument("--plot", type=output_file, metavar="FILE", help="draw the comparison")
    arguments = parser.parse_args()
    started = time.perf_counter()
    mode = "quick" if arguments.quick else "full"
    job = Job(
        side="engine", suite=SUITE, task_id=TASK_ID, num_episodes=16 if arguments.quick else 48
    )
    peer_job = replace(job, side="subproc", num_episodes=PEER_ROUNDS[mode] * job.num_workers)
    names: tuple[Side, ...] = ("subproc", "async")
    peers = {name: measure_peer(name, peer_job, THREADS[mode]) for name in names}
    policy_threads = THREADS["quick"][:1] if arguments.quick else THREADS["quick"]
    engine = {
        name: measure_engine(setting(job), policy_threads) for name, setting in SETTINGS.items()
    }
    short_chunks = compare_short_chunks(engine["exact"], peers["subproc"])
    limits = run_together([replace(job, side="limit")] * job.num_workers, Threads())
    num_compared, wrong = disagreements([engine["exact"], *peers.values()])
    if wrong or not num_compared:
        print("\n".join(wrong or ["no episodes were compared"]), file=sys.stderr)
        return 1
    found = summary(engine, peers, mean_limits(limits), short_chunks)
    report(found, num_compared)
    print(f"took {(time.perf_counter() - started) / 60:.1f} minutes")
    write_json(arguments.json, found, is_quick=arguments.quick)
    if arguments.plot is not None:
        draw(found, arguments.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
