"""One batched call of the policy for several episodes; what goes in and what comes out must be finite."""

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from pi0.records import Chunk, Observation, Sampling
from pi0.ript.env.rollout.attempt import Attempt
from pi0.ript.env.rollout.retries import place_of
from pi0.ript.env.rollout.stats import RolloutStats
from pi0.ript.interfaces import Policy
from pi0.ript.types import EpisodeRequest


class NotFiniteError(ValueError):
    """An episode met a number that is not finite.

    Attributes:
        request: Of the episode.
        task: Its instruction.
        observation: The look in question, or the one that was answered.
        chunk: The answer in question; None where the look is.
    """

    def __init__(
        self,
        what: str,
        request: EpisodeRequest,
        task: str,
        observation: Observation,
        chunk: Chunk | None,
    ) -> None:
        """Take what is not finite and where it was met."""
        super().__init__(f"{what} not finite in {place_of(request)}, seed {request.seed}")
        self.request = request
        self.task = task
        self.observation = observation
        self.chunk = chunk


def require_finite_observation(
    request: EpisodeRequest, task: str, observation: Observation
) -> None:
    """Raise ``NotFiniteError`` for proprioception with NaN or infinity; pictures are whole numbers."""
    if not np.isfinite(observation.proprio).all():
        raise NotFiniteError("proprioception", request, task, observation, None)


def require_finite_chunk(
    request: EpisodeRequest, task: str, observation: Observation, chunk: Chunk
) -> None:
    """Raise ``NotFiniteError`` for actions or a denoising chain with NaN or infinity."""
    for name, values in (("actions", chunk.actions), ("denoising chain", chunk.chain)):
        if not np.isfinite(values).all():
            raise NotFiniteError(name, request, task, observation, chunk)


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
            require_finite_observation(attempt.request, attempt.task, attempt.seen)
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
