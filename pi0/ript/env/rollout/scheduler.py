"""A rollout: ready slots -> one batched policy call -> chunks back -> next episode; episodes are yielded as they finish."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from time import perf_counter

from pi0.records import Sampling
from pi0.ript.config.env import Schedule
from pi0.ript.env.pool.ledger import PoolClosedError
from pi0.ript.env.rollout.attempt import Attempt
from pi0.ript.env.rollout.policy_call import PolicyCall
from pi0.ript.env.rollout.queue import Instruct, Source, Waiting
from pi0.ript.env.rollout.retries import DEFAULT_MAX_RESTARTS, Bounds, Retries
from pi0.ript.env.rollout.stats import RolloutStats
from pi0.ript.env.suites import task_language
from pi0.ript.interfaces import EnvPool, Policy, Reply
from pi0.ript.types import Episode


class Scheduler:
    """Keeps every simulator going. A slot is free, or has a command under way, or is ready for a decision.

    Args:
        pool: The slots; must be idle.
        waiting: The episodes to do.
        policy_call: Answers the ready slots.
        retries: Says what follows a fault.
        stats: Counts what happens.
    """

    def __init__(
        self,
        pool: EnvPool,
        waiting: Waiting,
        policy_call: PolicyCall,
        retries: Retries,
        stats: RolloutStats,
    ) -> None:
        self._pool, self._waiting, self._policy_call = pool, waiting, policy_call
        self._retries, self._stats = retries, stats
        self._free = list(range(pool.num_slots))
        self._under_way: dict[int, Attempt] = {}
        self._ready: dict[int, Attempt] = {}

    def run(self) -> Iterator[Episode]:
        """Yield every episode as it finishes, until nothing is under way and nothing left to begin."""
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
        return len(self._ready) >= self._policy_call.batch_size or bool(needy)

    def _fill(self) -> None:
        """Give free slots the episodes that suit them."""
        if self._free:
            self._waiting.fetch_ahead()
        for slot in list(self._free):
            if not self._waiting:
                return
            attempt = self._waiting.take(slot, self._num_active(slot))
            if attempt is not None:
                self._start(slot, attempt)

    def _start(self, slot: int, attempt: Attempt) -> None:
        attempt.started = perf_counter()
        self._free.remove(slot)
        self._pool.restore(slot, attempt.request.initial_state)
        self._under_way[slot] = attempt

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
            attempt = self._under_way.pop(reply.slot)
            episode = self._again(attempt, reply) if reply.error else attempt.advance(reply)
            if episode is None and not reply.error:
                self._ready[reply.slot] = attempt
                continue
            self._free.append(reply.slot)
            self._pool.release(reply.slot)
            episodes += [episode] if episode is not None else []
        return episodes

    def _again(self, attempt: Attempt, reply: Reply) -> Episode | None:
        """Let an episode that cannot go on begin again, or return it if it has crashed too often."""
        following = self._retries.next_attempt(attempt, reply)
        if following is None:
            return attempt.finish("crashed", reply.error)
        self._waiting.put_first(following)
        return None

    def _wait(self) -> list[Reply]:
        try:
            return self._pool.wait()
        except (OSError, RuntimeError):
            self.abandon()  # the pool cannot work at all: there is nothing left to drain
            raise

    def _decide(self) -> None:
        """Ask the policy once for as many ready slots as fit and send the chunks back."""
        self._answer(list(self._ready)[: self._policy_call.batch_size])

    def _answer(self, slots: Sequence[int]) -> None:
        attempts = [self._ready.pop(slot) for slot in slots]
        chunks = self._policy_call.answer(attempts)
        for slot, attempt, chunk in zip(slots, attempts, chunks, strict=True):
            attempt.chunk = chunk
            # After the episode's last step nobody looks.
            self._pool.execute(
                slot,
                chunk.actions[: attempt.num_left],
                observe=len(chunk.actions) < attempt.num_left,
                video=attempt.request.records_every_step,
            )
            self._under_way[slot] = attempt


class LockstepScheduler(Scheduler):
    """All slots decide together, wait for the slowest chunk, and begin and end rounds together."""

    def _is_time_to_decide(self) -> bool:
        return not self._under_way

    def _fill(self) -> None:
        if not self._under_way and not self._ready:
            super()._fill()

    def _decide(self) -> None:
        self._answer(list(self._ready))


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
    kind = Scheduler if schedule == "ready" else LockstepScheduler
    bounds = Bounds(max_attempts=max_attempts, max_restarts=max_restarts)
    scheduler = kind(
        pool,
        Waiting(pool, source, instruct),
        PolicyCall(policy, sampling, batch_size, stats),
        Retries(bounds, stats),
        stats,
    )
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
