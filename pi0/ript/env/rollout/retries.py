"""What follows an attempt that cannot go on: another one, a crashed episode, or the end of the rollout."""

import logging
from dataclasses import dataclass

from pi0.ript.env.rollout.attempt import Attempt, origin
from pi0.ript.env.rollout.stats import RolloutStats
from pi0.ript.interfaces import Fault, Reply
from pi0.ript.types import EpisodeRequest

logger = logging.getLogger(__name__)

WORKER_FAULTS: tuple[Fault, ...] = ("died", "hung", "malformed", "lost")


class RestartLimitError(OSError):
    """Simulators fail more often than is allowed; names the reason, the task and the seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much may go wrong.

    Attributes:
        max_attempts: Attempts at an episode whose own simulation raises, at least 1.
        max_restarts: Simulators that may be replaced.
    """

    max_attempts: int
    max_restarts: int

    def check_restarts(self, stats: RolloutStats, request: EpisodeRequest, error: str) -> None:
        """Raise ``RestartLimitError`` if too many simulators were replaced, the last in ``request``."""
        if stats.num_restarts > self.max_restarts:
            raise RestartLimitError(
                f"simulators were replaced {stats.num_restarts} times in one collection, "
                f"env.max_restarts allows {self.max_restarts}; the last one in {origin(request)}, "
                f"seed {request.seed}: {one_line(error)}"
            )


def one_line(text: str) -> str:
    """Return a text without line breaks."""
    return " ".join(text.split())


class Retries:
    """Decides how episodes whose simulation failed go on.

    Args:
        bounds: How much may go wrong.
        stats: Counts what does.
    """

    def __init__(self, bounds: Bounds, stats: RolloutStats) -> None:
        self._bounds = bounds
        self._stats = stats

    def next_attempt(self, attempt: Attempt, reply: Reply) -> Attempt | None:
        """Return the attempt from the initial state that follows, None where it would end as this one.

        Raises:
            RestartLimitError: More simulators had to be replaced than are allowed.
        """
        if reply.fault == "diverged":  # the same state and the same actions lead there again
            logger.warning("%s: %s", origin(attempt.request), one_line(reply.error))
            return None
        # A lost worker is no fault of its episodes.
        number = attempt.number + (reply.fault not in WORKER_FAULTS)
        self._log(attempt, reply)
        self._bounds.check_restarts(self._stats, attempt.request, reply.error)
        if number > self._bounds.max_attempts:
            return None
        self._stats.num_retries += 1
        return Attempt(request=attempt.request, task=attempt.task, number=number)

    def _log(self, attempt: Attempt, reply: Reply) -> None:
        # What is lost with another episode's simulator has been logged with that one.
        level = logging.DEBUG if reply.fault == "lost" else logging.WARNING
        logger.log(
            level,
            "%s: %s (%s, attempt %d of %d)",
            *(origin(attempt.request), one_line(reply.error), reply.fault),
            *(attempt.number, self._bounds.max_attempts),
        )
