"""A rollout: ready slots -> one batched policy call -> action chunks back -> next episode; episodes are yielded as they finish."""

from collections.abc import Generator
from contextlib import suppress
from time import perf_counter

from pi0.records import Sampling
from pi0.ript.env.pool.ledger import PoolClosedError
from pi0.ript.env.rollout.attempt import Attempt
from pi0.ript.env.rollout.policy_call import PolicyCall
from pi0.ript.env.rollout.queue import LEAST_ACTIVE, Instruct, Source, Waiting, no_more
from pi0.ript.env.rollout.retries import Bounds, Retries
from pi0.ript.env.rollout.stats import RolloutStats
from pi0.ript.env.suites import task_language
from pi0.ript.interfaces import EnvPool, Policy, Reply
from pi0.ript.types import Episode


class Scheduler:
    """Keeps every simulator busy. A slot is free, has a request under way, or is ready for a policy step.

    An episode depends on its request and the policy only, never on slot, order or neighbors. An
    attempt that cannot go on starts again from the initial state. If its own simulation raised, that
    uses one of ``max_attempts``, after which the episode is delivered with outcome ``crashed``; one
    whose physics diverged is delivered so at once; a worker that was lost is no fault of its episodes.

    Example: ``for episode in Scheduler(pool, policy, source, ...).run(): ...``
    """

    def __init__(
        self,
        pool: EnvPool,
        policy: Policy,
        source: Source,
        *,
        sampling: Sampling,
        batch_size: int,
        max_attempts: int,
        max_restarts: int,
        stats: RolloutStats,
        instruct: Instruct = task_language,
        spare: Source = no_more,
    ) -> None:
        """Begin nothing yet.

        Args:
            pool: The simulator slots; must be idle.
            policy: Maps a batch of observations to action chunks.
            source: Returns the episodes to run.
            sampling: How the policy draws its action chunks.
            batch_size: Most samples per policy call, at least 1.
            max_attempts: Attempts per episode whose simulation raises, at least 1.
            max_restarts: Simulators that may be replaced.
            stats: Counts what happens.
            instruct: Returns the instruction of a task; LIBERO's own unless another simulator runs.
            spare: Returns an episode to run where a worker would have nothing to do; None means none.
        """
        self._pool, self._stats = pool, stats
        self._waiting = Waiting(pool, source, instruct, spare)
        self._policy_call = PolicyCall(policy, sampling, batch_size, stats)
        bounds = Bounds(max_attempts=max_attempts, max_restarts=max_restarts)
        self._retries = Retries(bounds, stats)
        self._free = list(range(pool.num_slots))
        self._under_way: dict[int, Attempt] = {}
        self._ready: dict[int, Attempt] = {}

    def run(self) -> Generator[Episode, None, None]:
        """Yield every episode as it finishes, until none is under way and the source has none left.

        Closing the generator early waits for the requests under way, so that the pool is idle.

        Raises:
            NotFiniteError: An observation or an action chunk holds NaN or infinity.
            RestartLimitError: More simulators had to be replaced than are allowed.
        """
        try:
            self._fill()
            while self._under_way or self._ready:
                while self._under_way and not self._is_time_to_act():
                    for episode in self._collect():
                        self._stats.num_episodes += 1
                        yield episode
                    self._fill()
                if self._ready:
                    self._act(self._batch())
        except (KeyboardInterrupt, SystemExit, OSError):
            self._abandon()  # the program ends; closing the pool ends busy simulators
            raise
        except GeneratorExit as closing:
            # Ctrl-C or SIGTERM reached the consumer, which closes us on its way out.
            if isinstance(closing.__context__, KeyboardInterrupt | SystemExit):
                self._abandon()
            raise
        finally:
            self._drain()

    def _drain(self) -> None:
        """Leave the pool idle and its scenes free, also when the consumer stopped early."""
        begun = [*self._ready, *self._under_way]
        with suppress(PoolClosedError):  # a closed pool is idle
            while self._under_way:
                for reply in self._wait():
                    self._under_way.pop(reply.slot)
            for slot in begun:
                self._pool.release(slot)

    def _abandon(self) -> None:
        """Forget what is under way."""
        self._under_way.clear()
        self._ready.clear()

    def _is_time_to_act(self) -> bool:
        """Return whether the ready slots make a good batch: a full one, or a worker needs work."""
        if not self._ready:
            return False
        working = {self._pool.worker_of(slot) for slot in self._under_way}
        idle = {self._pool.worker_of(slot) for slot in self._ready} - working
        return len(self._ready) >= self._policy_call.batch_size or bool(idle)

    def _fill(self) -> None:
        """Give free slots the episodes that suit them."""
        if self._free:
            self._waiting.fetch_ahead()
        self._begin(list(self._free))
        for slot in list(self._free):
            if self._num_active(slot) < LEAST_ACTIVE and not self._waiting:
                self._waiting.fetch_spare()
                self._begin([slot])

    def _begin(self, slots: list[int]) -> None:
        for slot in slots:
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
        """Receive replies and return the episodes that have ended."""
        episodes: list[Episode] = []
        for reply in self._wait():
            self._stats.add_reply(reply, self._pool.worker_of(reply.slot))
            attempt = self._under_way.pop(reply.slot)
            episode = self._retry(attempt, reply) if reply.error else attempt.advance(reply)
            if episode is None and not reply.error:
                self._ready[reply.slot] = attempt
                continue
            self._free.append(reply.slot)
            self._pool.release(reply.slot)
            episodes += [episode] if episode is not None else []
        return episodes

    def _retry(self, attempt: Attempt, reply: Reply) -> Episode | None:
        """Let an episode that cannot go on begin again, or return it if that would end the same way."""
        following = self._retries.next_attempt(attempt, reply)
        if following is None:
            return attempt.crash(reply)
        self._waiting.put_first(following)
        return None

    def _wait(self) -> list[Reply]:
        try:
            return self._pool.wait()
        except (OSError, RuntimeError):
            self._abandon()  # the pool cannot work at all: there is nothing left to drain
            raise

    def _batch(self) -> list[int]:
        """Return the slots of the next policy call: as many ready ones as fit."""
        return list(self._ready)[: self._policy_call.batch_size]

    def _act(self, slots: list[int]) -> None:
        """Call the policy once for some ready slots and send them their action chunks."""
        attempts = [self._ready.pop(slot) for slot in slots]
        chunks = self._policy_call.act(attempts)
        for slot, attempt, chunk in zip(slots, attempts, chunks, strict=True):
            attempt.chunk = chunk
            # After the episode's last step nothing acts on an observation.
            self._pool.execute(
                slot,
                chunk.actions[: attempt.num_left],
                observe=len(chunk.actions) < attempt.num_left,
                video=attempt.request.records_every_step,
            )
            self._under_way[slot] = attempt


class LockstepScheduler(Scheduler):
    """The same episodes, as vector environments run them.

    All slots act together, wait for the slowest action chunk, and begin and end rounds together.
    """

    def _is_time_to_act(self) -> bool:
        return not self._under_way

    def _fill(self) -> None:
        if not self._under_way and not self._ready:
            super()._fill()

    def _batch(self) -> list[int]:
        return list(self._ready)
