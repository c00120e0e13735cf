"""The scheduler: ready slots -> one batched policy call -> chunks back -> next episode."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from time import perf_counter

from pi0.ript.env.attempt import Attempt
from pi0.ript.env.policy_call import PolicyCall
from pi0.ript.env.pool.ledger import PoolClosedError
from pi0.ript.env.retries import Retries
from pi0.ript.env.rollout_stats import RolloutStats
from pi0.ript.env.waiting import Waiting
from pi0.ript.interfaces import EnvPool, Reply
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
            self._waiting.look_ahead()
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
                look=len(chunk.actions) < attempt.num_left,
                film=attempt.request.films_steps,
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
