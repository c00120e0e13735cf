"""What becomes of an attempt that cannot go on: another one, a crashed episode, or the end of the rollout."""

import logging

from pi0.ript.env.attempt import Attempt
from pi0.ript.env.bounds import Bounds, one_line, place_of
from pi0.ript.env.rollout_stats import RolloutStats
from pi0.ript.interfaces import Fault, Reply

logger = logging.getLogger(__name__)

WORKER_FAULTS: tuple[Fault, ...] = ("died", "hung", "malformed", "lost")


class Retries:
    """Counts what goes wrong in one rollout.

    Args:
        bounds: How much may.
        stats: Counts it.
    """

    def __init__(self, bounds: Bounds, stats: RolloutStats) -> None:
        self._bounds = bounds
        self._stats = stats

    def next_attempt(self, attempt: Attempt, reply: Reply) -> Attempt | None:
        """Return the attempt from the initial state that follows, None where there were too many.

        Raises:
            RestartLimitError: More simulators had to be replaced than are allowed.
        """
        # A lost worker is no fault of its episodes.
        number = attempt.number + (reply.fault not in WORKER_FAULTS)
        self._log(attempt, reply)
        self._bounds.check_restarts(self._stats, attempt.request, reply.error)
        if number > self._bounds.max_attempts:
            return None
        self._stats.num_retries += 1
        return Attempt(request=attempt.request, task=attempt.task, number=number)

    def _log(self, attempt: Attempt, reply: Reply) -> None:
        # What is lost with another episode's simulator has been told with that one.
        level = logging.DEBUG if reply.fault == "lost" else logging.WARNING
        logger.log(
            level,
            "%s: %s (%s, attempt %d of %d)",
            *(place_of(attempt.request), one_line(reply.error), reply.fault),
            *(attempt.number, self._bounds.max_attempts),
        )
