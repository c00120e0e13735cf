"""The scheduler: ready slots -> one batched policy call -> chunks back -> next episode."""

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter

from pi0.records import Chunk, Observation, Sampling
from pi0.ript.config.env import Schedule
from pi0.ript.env.bounds import DEFAULT_MAX_RESTARTS, Bounds, one_line, place_of
from pi0.ript.env.finite import require_finite_chunk, require_finite_look
from pi0.ript.env.ledger import PoolClosedError
from pi0.ript.env.rollout_stats import RolloutStats
from pi0.ript.env.routing import choose
from pi0.ript.env.suites import task_language
from pi0.ript.film_strip import FilmStrip
from pi0.ript.interfaces import EnvPool, Fault, Policy, Reply
from pi0.ript.seeding import derive_seed
from pi0.ript.types import Decision, Episode, EpisodeRequest, Outcome

logger = logging.getLogger(__name__)

LOOK_AHEAD = 64  # requests taken early, so that a slot can choose one whose scene is loaded
WORKER_FAULTS: tuple[Fault, ...] = ("died", "hung", "malformed", "lost")

Source = Callable[[], EpisodeRequest | None]
"""Gives the next episode to do; None means nothing for now, so it is asked again later."""

Instruct = Callable[[str, int], str]
"""Suite and task number -> the instruction given to the policy."""


@dataclass(slots=True, kw_only=True)
class _Run:
    """An attempt at an episode."""

    request: EpisodeRequest
    task: str
    attempt: int
    observation: Observation | None = None
    chunk: Chunk | None = None
    decisions: list[Decision] = field(default_factory=list[Decision])
    strips: list[FilmStrip] = field(default_factory=list[FilmStrip])
    num_steps: int = 0
    started: float = field(default_factory=perf_counter)

    @property
    def scene(self) -> tuple[str, int]:
        return self.request.initial_state.suite, self.request.initial_state.task_id

    def finish(self, outcome: Outcome, error: str = "") -> Episode:
        return Episode(
            request=self.request,
            task=self.task,
            decisions=tuple(self.decisions),
            outcome=outcome,
            num_steps=self.num_steps,
            error=error,
            strips=tuple(self.strips),
            seconds=perf_counter() - self.started,
        )


def rollout(
    pool: EnvPool,
    policy: Policy,
    source: Source,
    *,
    sampling: Sampling,
    batch_size: int,
    max_attempts: int,
    max_restarts: int = DEFAULT_MAX_RESTARTS,
    stats: RolloutStats,
    schedule: Schedule = "ready",
    instruct: Instruct = task_language,
) -> Generator[Episode, None, None]:
    """Run the source's episodes on all slots and yield each as it finishes.

    An episode depends on its request and the policy only, never on slot, order or neighbours. An
    attempt that cannot go on starts again from the initial state. If its own simulation raised, that
    uses one of ``max_attempts``, after which the episode is delivered with outcome ``crashed``; a
    worker that was lost is no fault of its episodes. Ends once nothing is under way and the source
    has nothing left. Closing the generator early waits for the commands under way.

    Args:
        pool: The simulator slots; must be idle.
        policy: Answers batches of looks.
        source: Gives the episodes to do.
        sampling: How the policy draws its chunks.
        batch_size: Most rows per policy call.
        max_attempts: Attempts per episode whose simulation raises.
        max_restarts: Simulators that may be replaced.
        stats: Counts what happens.
        schedule: ``ready`` keeps every simulator going; ``lockstep`` lets all of them decide
            together, wait for the slowest chunk and the longest episode, as vector environments
            do. The episodes are the same.
        instruct: Says what a task is called; LIBERO's own instructions unless another simulator runs.

    Raises:
        NotFiniteError: A look or an answer of the policy holds NaN or infinity.
        RestartLimitError: More simulators had to be replaced than are allowed.
    """
    kind = _Scheduler if schedule == "ready" else _LockstepScheduler
    bounds = Bounds(max_attempts=max_attempts, max_restarts=max_restarts)
    scheduler = kind(pool, policy, source, sampling, batch_size, bounds, stats, instruct)
    try:
        yield from scheduler.run()
    except (KeyboardInterrupt, SystemExit, OSError):
        scheduler.abandon()  # the program ends; closing the pool ends busy simulators
        raise
    except GeneratorExit as closing:
        # Ctrl-C or SIGTERM reached the consumer, which closes us on its way out.
        if isinstance(closing.__context__, KeyboardInterrupt | SystemExit):
            scheduler.abandon()
        raise
    finally:
        scheduler.drain()


class _Scheduler:
    def __init__(
        self,
        pool: EnvPool,
        policy: Policy,
        source: Source,
        sampling: Sampling,
        batch_size: int,
        bounds: Bounds,
        stats: RolloutStats,
        instruct: Instruct,
    ) -> None:
        self._pool, self._policy, self._source = pool, policy, source
        self._sampling, self._batch_size = sampling, batch_size
        self._bounds, self._stats = bounds, stats
        self._instruct = instruct
        self._free = list(range(pool.num_slots))
        self._waiting: deque[_Run] = deque()
        self._under_way: dict[int, _Run] = {}
        self._ready: dict[int, _Run] = {}

    def run(self) -> Iterator[Episode]:
        self._fill()
        while self._under_way or self._ready:
            while self._under_way and not self._is_time_to_decide():
                for episode in self._collect():
                    self._stats.num_episodes += 1
                    yield episode
                self._fill()
            if self._ready:
                self._decide()

    def drain(self) -> None:
        """Leave the pool idle, also when the consumer stopped early."""
        with suppress(PoolClosedError):  # a closed pool is idle
            while self._under_way:
                for reply in self._wait():
                    self._under_way.pop(reply.slot)

    def abandon(self) -> None:
        """Forget what is under way."""
        self._under_way.clear()

    def _is_time_to_decide(self) -> bool:
        """Return whether the ready slots make a good batch: a full one, or a worker needs work."""
        if not self._ready:
            return False
        working = {self._pool.worker_of(slot) for slot in self._under_way}
        needy = {self._pool.worker_of(slot) for slot in self._ready} - working
        return len(self._ready) >= self._batch_size or bool(needy)

    def _fill(self) -> None:
        """Give free slots the episodes that suit them."""
        # Looking ahead leaves a choice; an episode is the same wherever and whenever it runs.
        while self._free and len(self._waiting) < max(LOOK_AHEAD, self._pool.num_slots):
            request = self._source()
            if request is None:
                break
            state = request.initial_state
            task = self._instruct(state.suite, state.task_id)
            self._waiting.append(_Run(request=request, task=task, attempt=1))
        for slot in list(self._free):
            if not self._waiting:
                return
            scenes = [run.scene for run in self._waiting]
            position = choose(self._pool, slot, scenes, self._num_active(slot))
            if position is not None:
                self._start(slot, self._waiting[position])

    def _start(self, slot: int, run: _Run) -> None:
        self._waiting.remove(run)
        run.started = perf_counter()
        self._free.remove(slot)
        self._pool.restore(slot, run.request.initial_state)
        self._under_way[slot] = run

    def _num_active(self, slot: int) -> int:
        """Return how many episodes are under way in the worker of a slot."""
        worker = self._pool.worker_of(slot)
        return sum(
            self._pool.worker_of(other) == worker for other in [*self._under_way, *self._ready]
        )

    def _collect(self) -> list[Episode]:
        """Take finished commands and return the episodes that have ended."""
        episodes: list[Episode] = []
        for reply in self._wait():
            self._stats.add_reply(reply, self._pool.worker_of(reply.slot))
            run = self._under_way.pop(reply.slot)
            episode = self._advance(run, reply)
            if episode is None and not reply.error:
                self._ready[reply.slot] = run
                continue
            self._free.append(reply.slot)
            self._pool.release(reply.slot)
            episodes += [episode] if episode is not None else []
        return episodes

    def _wait(self) -> list[Reply]:
        try:
            return self._pool.wait()
        except (
            OSError,
            RuntimeError,
        ):  # the pool cannot work at all; there is nothing left to drain
            self.abandon()
            raise

    def _advance(self, run: _Run, reply: Reply) -> Episode | None:
        """Take a reply into its episode and return the episode if it has ended."""
        if reply.error:
            return self._again(run, reply)
        run.observation, last, run.chunk = reply.observation, run.observation, run.chunk
        if run.chunk is None or last is None:
            return None  # just restored
        run.decisions.append(
            Decision(observation=last, chunk=run.chunk, num_executed=reply.num_steps)
        )
        run.strips += [reply.strip] if reply.strip is not None else []
        run.num_steps += reply.num_steps
        if reply.is_success:
            return run.finish("success")
        return run.finish("failure") if run.num_steps >= run.request.max_steps else None

    def _again(self, run: _Run, reply: Reply) -> Episode | None:
        """Start an episode again that cannot go on, unless it has crashed too often."""
        attempt = run.attempt + (reply.fault not in WORKER_FAULTS)
        self._log(run, reply)
        self._bounds.check_restarts(self._stats, run.request, reply.error)
        if attempt > self._bounds.max_attempts:
            return run.finish("crashed", reply.error)
        self._stats.num_retries += 1
        again = _Run(request=run.request, task=run.task, attempt=attempt)
        self._waiting.appendleft(again)
        return None

    def _log(self, run: _Run, reply: Reply) -> None:
        # What is lost with another episode's simulator has been told with that one.
        level = logging.DEBUG if reply.fault == "lost" else logging.WARNING
        logger.log(
            level,
            "%s: %s (%s, attempt %d of %d)",
            *(place_of(run.request), one_line(reply.error), reply.fault),
            *(run.attempt, self._bounds.max_attempts),
        )

    def _decide(self) -> None:
        """Ask the policy once for as many ready slots as fit and send the chunks back."""
        self._answer(list(self._ready)[: self._batch_size])

    def _answer(self, slots: Sequence[int]) -> None:
        runs = [self._ready.pop(slot) for slot in slots]
        for run in runs:
            require_finite_look(run.request, run.task, _seen(run))
        started = perf_counter()
        chunks = self._policy.act(
            [_seen(run) for run in runs],
            [run.task for run in runs],
            [derive_seed(run.request.seed, len(run.decisions)) for run in runs],
            self._sampling,
        )
        self._stats.add_policy_call(len(runs), self._batch_size, perf_counter() - started)
        for run, chunk in zip(runs, chunks, strict=True):
            require_finite_chunk(run.request, run.task, _seen(run), chunk)
        self._send(slots, runs, chunks)

    def _send(self, slots: Sequence[int], runs: Sequence[_Run], chunks: Sequence[Chunk]) -> None:
        for slot, run, chunk in zip(slots, runs, chunks, strict=True):
            run.chunk = chunk
            num_left = run.request.max_steps - run.num_steps
            # After the episode's last step nobody looks.
            self._pool.execute(
                slot,
                chunk.actions[:num_left],
                look=len(chunk.actions) < num_left,
                film=run.request.films_steps,
            )
            self._under_way[slot] = run


class _LockstepScheduler(_Scheduler):
    """All slots decide together, wait for the slowest chunk, and begin and end rounds together."""

    def _is_time_to_decide(self) -> bool:
        return not self._under_way

    def _fill(self) -> None:
        if not self._under_way and not self._ready:
            super()._fill()

    def _decide(self) -> None:
        self._answer(list(self._ready))


def _seen(run: _Run) -> Observation:
    assert run.observation is not None
    return run.observation
