"""What the parts of a rollout take on this machine: the inputs of ``rollout_model/``.

Simulators are measured without the policy, by actions that it gave in the same episodes before (an arm that
touches things costs more than one that waves about), the policy without simulators, and two workers side by
side for what busy cores take from each other.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.rollout_model.costs import Costs
from benchmarks.simulator.job import (
    BATCH_SIZE,
    INSTRUCTION,
    NUM_STEPS_WAIT,
    SAMPLING,
    TIMEOUT_S,
    Job,
)
from pi0.records import Chunk, Observation, ObservationSpec, Sampling
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.pool.process_pool import ProcessPool
from pi0.ript.env.rollout.scheduler import Scheduler
from pi0.ript.env.rollout.stats import RolloutStats
from pi0.ript.interfaces import EnvPool, Policy, Reply
from pi0.ript.seeding import derive_seed
from pi0.ript.types import Episode, EpisodeRequest

CHUNK = 10
NUM_STATES = 2
POLICY_CALLS = 60


@dataclass(slots=True, kw_only=True)
class RequestTimes(RolloutStats):
    """Keeps what every request took.

    Attributes:
        restores: Seconds of every restore.
        executions: (control steps, physics seconds, rendering seconds) of every action chunk.
        observations: The last observation of every slot.
    """

    restores: list[float] = field(default_factory=list[float])
    executions: list[tuple[int, float, float]] = field(
        default_factory=list[tuple[int, float, float]]
    )
    observations: dict[int, Observation] = field(default_factory=dict[int, Observation])

    def add_reply(self, reply: Reply, worker: int) -> None:
        """Take a reply."""
        RolloutStats.add_reply(self, reply, worker)
        timings = reply.timings
        if reply.observation is not None:
            self.observations[reply.slot] = reply.observation
        if reply.num_steps:
            physics, render = timings["physics_s"], timings.get("render_s", 0.0)
            self.executions.append((reply.num_steps, physics, render))
        else:
            self.restores.append(sum(timings.values()))


class Recorder:
    """A policy whose action chunks are kept by their seeds, of which every policy step has its own."""

    def __init__(self, policy: Policy) -> None:
        """Begin with nothing."""
        self.spec = policy.spec
        self.chunks: dict[int, Chunk] = {}
        self._policy = policy

    def act(
        self,
        observations: Sequence[Observation],
        tasks: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Chunk]:
        """Pass the policy's action chunks on."""
        chunks = self._policy.act(observations, tasks, seeds, sampling)
        self.chunks |= dict(zip(seeds, chunks, strict=True))
        return chunks


class RecordedPolicy:
    """Returns at once the action chunks that were recorded."""

    def __init__(self, spec: ObservationSpec, chunks: Mapping[int, Chunk]) -> None:
        """Observe what ``spec`` describes."""
        self.spec = spec
        self._chunks = chunks

    def act(
        self,
        observations: Sequence[Observation],
        tasks: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Chunk]:
        """Return the action chunk of every seed."""
        return [self._chunks[seed] for seed in seeds]


def requests(job: Job, num_episodes: int) -> list[EpisodeRequest]:
    """Return episodes from a few initial states, so that settling them can be left to a warm-up."""
    return [
        EpisodeRequest(
            initial_state=make_initial_state(job.suite, job.task_id, n % NUM_STATES, 0),
            seed=derive_seed("scaling", n),
            max_steps=job.max_steps,
            rollout=n,
        )
        for n in range(num_episodes)
    ]


def run_episodes(
    pool: EnvPool, policy: Policy, todo: Sequence[EpisodeRequest]
) -> tuple[list[Episode], RequestTimes, float]:
    """Run episodes and return them, what their requests took, and the wall seconds."""
    waiting, stats, started = iter(todo), RequestTimes(), time.perf_counter()
    episodes = list(
        Scheduler(
            pool,
            policy,
            lambda: next(waiting, None),
            sampling=SAMPLING,
            batch_size=BATCH_SIZE,
            max_attempts=1,
            max_restarts=20,
            stats=stats,
        ).run()
    )
    assert all(e.outcome != "crashed" for e in episodes), "a simulator crashed"
    return episodes, stats, time.perf_counter() - started


def warm_up(pool: EnvPool, policy: Policy, job: Job) -> None:
    """Build the scene in every worker and settle every initial state there."""
    short = [
        EpisodeRequest(initial_state=r.initial_state, seed=r.seed, max_steps=CHUNK, rollout=n)
        for n, r in enumerate(requests(job, NUM_STATES * max(pool.num_slots, 2 * pool.num_workers)))
    ]
    run_episodes(pool, policy, short)


def measure_costs(job: Job, policy: Policy, num_episodes: int) -> Costs:
    """Measure every cost; takes about a minute."""
    both, _, recorded = _simulators(job, 2, 2 * num_episodes, policy)
    alone, scheduler_s, _ = _simulators(job, 1, num_episodes, recorded)
    inference = _inference(policy, alone.observations[0])
    step_s, render_s = _step(alone), _render(alone)
    request_s = scheduler_s["waiting_s"]
    busy = CHUNK * _step(both) + _render(both)
    return Costs(
        step_s=step_s,
        render_s=render_s,
        restore_s=statistics.mean(alone.restores),
        request_s=request_s,
        inference_s=statistics.mean(inference),
        reply_s=scheduler_s["reply_s"],
        observation_bytes=_observation_bytes(job.spec),
        slowdown=max(0.0, 1.0 - (CHUNK * step_s + render_s) / busy),
        spread=_spread(alone),
    )


def _simulators(
    job: Job, num_workers: int, num_episodes: int, policy: Policy
) -> tuple[RequestTimes, dict[str, float], RecordedPolicy]:
    """Run the policy's episodes again without it, on one slot per worker.

    Returns:
        Times of requests, of what is around them, and the policy as it was recorded.
    """
    todo = requests(job, num_episodes)
    with ProcessPool(job.spec, num_workers, num_workers, max_scenes=1,
                     num_steps_wait=NUM_STEPS_WAIT, timeout_s=TIMEOUT_S) as pool:  # fmt: skip
        warm_up(pool, policy, job)
        recorder = Recorder(policy)
        run_episodes(pool, recorder, todo)
        recorded = RecordedPolicy(policy.spec, recorder.chunks)
        cpu = time.thread_time()
        _, stats, wall_s = run_episodes(pool, recorded, todo)
        cpu = time.thread_time() - cpu
    num_requests = len(stats.executions) + len(stats.restores)
    around = num_workers * wall_s - sum(stats.worker_seconds.values())
    reply_s = cpu / num_requests
    scheduler_s = {"reply_s": reply_s, "waiting_s": max(0.0, around / num_requests - reply_s)}
    return stats, scheduler_s, recorded


def _inference(policy: Policy, observation: Observation) -> list[float]:
    """Return the seconds of full policy calls."""
    samples: list[float] = []
    for call in range(POLICY_CALLS + 5):
        started = time.perf_counter()
        seeds = [derive_seed("call", call, sample) for sample in range(BATCH_SIZE)]
        policy.act([observation] * BATCH_SIZE, [INSTRUCTION] * BATCH_SIZE, seeds, SAMPLING)
        samples.append(time.perf_counter() - started)
    return samples[5:]


def _step(times: RequestTimes) -> float:
    return sum(physics for _, physics, _ in times.executions) / sum(
        steps for steps, _, _ in times.executions
    )


def _render(times: RequestTimes) -> float:
    drawn = [render for _, _, render in times.executions if render > 0]
    return statistics.mean(drawn)


def _spread(times: RequestTimes) -> float:
    """Return the relative standard deviation of whole action chunks with an observation."""
    whole = [physics + render for _, physics, render in times.executions if render > 0]
    return statistics.stdev(whole) / statistics.mean(whole)


def _observation_bytes(spec: ObservationSpec) -> int:
    return len(spec.cameras) * spec.height * spec.width * 3 + 9 * 8
