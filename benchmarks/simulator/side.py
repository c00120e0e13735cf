"""One side of a comparison: ``python -m benchmarks.simulator.side JOB RESULT``, started by ``run_job``."""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.simulator.job import (
    BATCH_SIZE,
    SAMPLING,
    SETTINGS,
    FirstCameraPolicy,
    Job,
    policy_step_digest,
    read_job,
)
from pi0.files import write_atomically
from pi0.records import Chunk, Observation
from pi0.ript.config.schema import EnvConfig, PolicyConfig, TrainConfig
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.pi0_libero_runner_ript_vla import PI0LiberoRunner
from pi0.ript.env.suites import task_language
from pi0.ript.seeding import derive_seed
from pi0.ript.types import Episode, EpisodeRequest

WARM_UP_STATE = 49


def run_engine(job: Job) -> dict[str, Any]:
    """Do the episodes on this project's engine."""
    config = TrainConfig(
        env=EnvConfig(num_workers=job.num_workers), policy=PolicyConfig(batch_size=BATCH_SIZE)
    )
    runner = PI0LiberoRunner(
        FirstCameraPolicy(job.spec, job.chunk),
        job.suite,
        num_parallel_envs=job.num_slots,
        config=config,
    )
    with runner:
        _run_all(runner, _warm_up_requests(job))
        before, started = cpu_seconds(), time.perf_counter()
        episodes = _run_all(runner, job.requests())
        wall_s, after = time.perf_counter() - started, cpu_seconds()
        metrics = runner.stats.metrics(wall_s)
    return {
        "wall_s": wall_s,
        "cpu_s": {who: after[who] - before[who] for who in after},
        "stages": {name: value for name, value in metrics.items() if name.startswith("time/")},
        "episodes": [_engine_record(episode) for episode in episodes],
    }


def cpu_seconds() -> dict[str, float]:
    """Return CPU seconds so far of this process, which runs the policy, and of its workers."""
    pid, ticks = os.getpid(), os.sysconf("SC_CLK_TCK")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    # Fields 14 and 15 of stat are user and system ticks; the name in field 2 may hold spaces.
    stats = [
        Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split() for child in children
    ]
    workers = sum(int(fields[11]) + int(fields[12]) for fields in stats) / ticks
    return {"policy": time.process_time(), "workers": workers}


def _warm_up_requests(job: Job) -> list[EpisodeRequest]:
    """Return one short episode per slot, so that every worker has built its scene."""
    state = make_initial_state(job.suite, job.task_id, WARM_UP_STATE, fixture_seed=0)
    return [EpisodeRequest(initial_state=state, seed=n, max_steps=20) for n in range(job.num_slots)]


def _run_all(runner: PI0LiberoRunner, requests: Sequence[EpisodeRequest]) -> list[Episode]:
    waiting = iter(requests)
    return list(runner.run(lambda: next(waiting, None), SAMPLING))


def _engine_record(episode: Episode) -> dict[str, Any]:
    request = episode.request
    assert episode.outcome != "crashed", episode.error
    return {
        "group": request.group,
        "rollout": request.rollout,
        "num_steps": episode.num_steps,
        "is_success": episode.outcome == "success",
        "policy_steps": [policy_step_digest(d.observation, d.chunk) for d in episode.policy_steps],
    }


class Stopwatch:
    """Adds up wall seconds by stage."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}

    def time(self, stage: str, action: Callable[[], Any]) -> Any:
        """Run an action, count its seconds for the stage, return its result."""
        started = time.perf_counter()
        result = action()
        self.stages[stage] = self.stages.get(stage, 0.0) + time.perf_counter() - started
        return result


def run_peer(job: Job) -> dict[str, Any]:
    """Do the episodes on LIBERO's or gymnasium's vector environment."""
    # Imported here: the engine's side must not pay for a second simulator in this process.
    from benchmarks.simulator.vector_peers import AsyncPeer, SubprocPeer  # noqa: PLC0415

    make = SubprocPeer if job.side == "subproc" else AsyncPeer
    # The environments are forked off before the policy and its threads exist.
    peer = make(job.suite, job.task_id, job.size, job.num_workers)
    policy, watches = FirstCameraPolicy(job.spec, job.chunk), list[Stopwatch]()
    requests, records = job.requests(), []
    started = time.perf_counter()
    for first in range(0, len(requests), job.num_workers):
        group = requests[first : first + job.num_workers]
        watches.append(Stopwatch())
        records += LockstepRound(job, peer, policy, watches[-1], group).run()
    wall_s = time.perf_counter() - started
    peer.close()
    rounds = [watch.stages for watch in watches]
    stages = {stage: sum(r[stage] for r in rounds) for stage in rounds[0]}
    return {"wall_s": wall_s, "rounds": rounds, "stages": stages, "episodes": records}


class LockstepRound:
    """One episode in every environment; the round lasts until the last one has ended."""

    def __init__(
        self,
        job: Job,
        peer: Any,
        policy: FirstCameraPolicy,
        watch: Stopwatch,
        requests: Sequence[EpisodeRequest],
    ) -> None:
        self._job, self._peer, self._policy, self._watch = job, peer, policy, watch
        self._requests = requests
        self._tasks = [task_language(job.suite, job.task_id)] * len(requests)
        self._records: list[dict[str, Any]] = [
            {"group": request.group, "rollout": request.rollout, "num_steps": 0,
             "is_success": False, "policy_steps": []}
            for request in requests
        ]  # fmt: skip

    def run(self) -> list[dict[str, Any]]:
        """Return what happened in every environment."""
        states = [request.initial_state for request in self._requests]
        observations = self._watch.time("restore_s", lambda: self._peer.start(states))
        step = 0
        while step < self._job.max_steps and not all(r["is_success"] for r in self._records):
            observations, step = self._chunk(observations, step)
        return self._records

    def _chunk(self, observations: list[Observation], step: int) -> tuple[list[Observation], int]:
        chunks: list[Chunk] = self._watch.time("policy_s", lambda: self._act(observations))
        for record, observation, chunk in zip(self._records, observations, chunks, strict=True):
            if not record["is_success"]:
                record["policy_steps"].append(policy_step_digest(observation, chunk))
        length = min(len(chunks[0].actions), self._job.max_steps - step)
        for index in range(length):
            actions = np.stack([chunk.actions[index] for chunk in chunks])
            observations, dones = self._watch.time("step_s", lambda a=actions: self._peer.step(a))
            self._note(dones)
        return observations, step + length

    def _act(self, observations: list[Observation]) -> list[Chunk]:
        seeds = [
            derive_seed(request.seed, len(record["policy_steps"]))
            for request, record in zip(self._requests, self._records, strict=True)
        ]
        return self._policy.act(observations, self._tasks, seeds, SAMPLING)

    def _note(self, dones: np.ndarray) -> None:
        for record, done in zip(self._records, dones, strict=True):
            record["num_steps"] += not record["is_success"]
            record["is_success"] |= bool(done)


def run_limit(job: Job) -> dict[str, Any]:
    """Measure what an episode takes at least, for the three ways of drawing."""
    from benchmarks.simulator.limits import measure_limits  # noqa: PLC0415 - as in run_peer

    specs = {name: setting(job).spec for name, setting in SETTINGS.items()}
    return dict(measure_limits(job, specs, rounds=2))


RUNS = {"engine": run_engine, "subproc": run_peer, "async": run_peer, "limit": run_limit}


def main() -> None:
    """Do the job of the command line and write what it gave."""
    job, result = read_job(sys.argv[1]), Path(sys.argv[2])
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", cores)))
    write_atomically(result, json.dumps(RUNS[job.side](job)))


if __name__ == "__main__":
    main()
