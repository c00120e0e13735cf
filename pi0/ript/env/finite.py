"""Looks and chunks of an episode must be finite; one that is not ends the run and is kept as evidence."""

import numpy as np

from pi0.records import Chunk, Observation
from pi0.ript.env.bounds import place_of
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
        self, what: str, request: EpisodeRequest, task: str, look: Observation, chunk: Chunk | None
    ) -> None:
        """Take what is not finite and where it was met."""
        super().__init__(f"{what} not finite in {place_of(request)}, seed {request.seed}")
        self.request = request
        self.task = task
        self.observation = look
        self.chunk = chunk


def require_finite_look(request: EpisodeRequest, task: str, look: Observation) -> None:
    """Raise ``NotFiniteError`` for proprioception with NaN or infinity; pictures are whole numbers."""
    if not np.isfinite(look.proprio).all():
        raise NotFiniteError("proprioception", request, task, look, None)


def require_finite_chunk(
    request: EpisodeRequest, task: str, look: Observation, chunk: Chunk
) -> None:
    """Raise ``NotFiniteError`` for actions or a denoising chain with NaN or infinity."""
    for name, values in (("actions", chunk.actions), ("denoising chain", chunk.chain)):
        if not np.isfinite(values).all():
            raise NotFiniteError(name, request, task, look, chunk)
