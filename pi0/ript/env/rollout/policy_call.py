"""One batched call of the policy for several episodes; its inputs and outputs must be finite."""

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from pi0.records import Chunk, Observation, Sampling
from pi0.ript.env.rollout.attempt import Attempt, origin
from pi0.ript.env.rollout.stats import RolloutStats
from pi0.ript.interfaces import Policy
from pi0.ript.types import EpisodeRequest


class NotFiniteError(ValueError):
    """An episode met a number that is not finite.

    Attributes:
        request: Of the episode.
        task: Its instruction.
        observation: The observation in question, or the one that the action chunk belongs to.
        chunk: The action chunk in question; None where the observation is.
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
        super().__init__(f"{what} not finite in {origin(request)}, seed {request.seed}")
        self.request = request
        self.task = task
        self.observation = observation
        self.chunk = chunk


def require_finite_observation(
    request: EpisodeRequest, task: str, observation: Observation
) -> None:
    """Raise ``NotFiniteError`` for proprioception with NaN or infinity; images are whole numbers."""
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
    """Calls the policy of a rollout.

    Args:
        policy: Maps a batch of observations to action chunks.
        sampling: How it draws them.
        batch_size: Samples of a full batch.
        stats: Counts the calls.
    """

    def __init__(
        self, policy: Policy, sampling: Sampling, batch_size: int, stats: RolloutStats
    ) -> None:
        self._policy = policy
        self._sampling = sampling
        self.batch_size = batch_size
        self._stats = stats

    def act(self, attempts: Sequence[Attempt]) -> list[Chunk]:
        """Return an action chunk for the newest observation of every attempt.

        Raises:
            NotFiniteError: An observation or an action chunk holds NaN or infinity.
        """
        for attempt in attempts:
            require_finite_observation(attempt.request, attempt.task, attempt.newest)
        started = perf_counter()
        chunks = self._policy.act(
            [attempt.newest for attempt in attempts],
            [attempt.task for attempt in attempts],
            [attempt.noise_seed for attempt in attempts],
            self._sampling,
        )
        self._stats.add_policy_call(len(attempts), self.batch_size, perf_counter() - started)
        for attempt, chunk in zip(attempts, chunks, strict=True):
            require_finite_chunk(attempt.request, attempt.task, attempt.newest, chunk)
        return chunks
