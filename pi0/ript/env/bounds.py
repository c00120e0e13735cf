"""How much may go wrong in a rollout before it ends, and in which words it ends."""

from dataclasses import dataclass

from pi0.ript.env.rollout_stats import RolloutStats
from pi0.ript.types import EpisodeRequest

DEFAULT_MAX_RESTARTS = 20


class RestartLimitError(OSError):
    """Simulators fail more often than is allowed; names the reason, the task and the seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much may go wrong.

    Attributes:
        max_attempts: How often an episode is tried whose own simulation raises.
        max_restarts: How many simulators may be replaced.
    """

    max_attempts: int
    max_restarts: int

    def check_restarts(self, stats: RolloutStats, request: EpisodeRequest, error: str) -> None:
        """Raise ``RestartLimitError`` if too many simulators were replaced, the last in ``request``."""
        if stats.num_restarts > self.max_restarts:
            raise RestartLimitError(
                f"simulators were replaced {stats.num_restarts} times in one collection, "
                f"env.max_restarts allows {self.max_restarts}; the last one in {place_of(request)}, "
                f"seed {request.seed}: {one_line(error)}"
            )


def place_of(request: EpisodeRequest) -> str:
    """Return which situation an episode begins in, in words."""
    state = request.initial_state
    return f"{state.suite} task {state.task_id}, state {state.index}"


def one_line(text: str) -> str:
    """Return a text without line breaks."""
    return " ".join(text.split())
