"""One batched call of the policy for the looks of several episodes."""

from collections.abc import Sequence
from time import perf_counter

from pi0.records import Chunk, Sampling
from pi0.ript.env.attempt import Attempt
from pi0.ript.env.finite import require_finite_chunk, require_finite_look
from pi0.ript.env.rollout_stats import RolloutStats
from pi0.ript.interfaces import Policy


class PolicyCall:
    """Asks the policy of one rollout.

    Args:
        policy: Answers batches of looks.
        sampling: How it draws its chunks.
        batch_size: Rows of a full batch.
        stats: Counts the calls.
    """

    def __init__(
        self, policy: Policy, sampling: Sampling, batch_size: int, stats: RolloutStats
    ) -> None:
        self._policy = policy
        self._sampling = sampling
        self.batch_size = batch_size
        self._stats = stats

    def answer(self, attempts: Sequence[Attempt]) -> list[Chunk]:
        """Return a chunk for the look of every attempt.

        Raises:
            NotFiniteError: A look or an answer holds NaN or infinity.
        """
        for attempt in attempts:
            require_finite_look(attempt.request, attempt.task, attempt.seen)
        started = perf_counter()
        chunks = self._policy.act(
            [attempt.seen for attempt in attempts],
            [attempt.task for attempt in attempts],
            [attempt.noise_seed for attempt in attempts],
            self._sampling,
        )
        self._stats.add_policy_call(len(attempts), self.batch_size, perf_counter() - started)
        for attempt, chunk in zip(attempts, chunks, strict=True):
            require_finite_chunk(attempt.request, attempt.task, attempt.seen, chunk)
        return chunks
