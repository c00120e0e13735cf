"""The episodes that wait for a slot."""

from collections import deque
from collections.abc import Callable

from pi0.ript.env.attempt import Attempt
from pi0.ript.env.routing import choose
from pi0.ript.interfaces import EnvPool
from pi0.ript.types import EpisodeRequest

LOOK_AHEAD = 64  # requests taken early, so that a slot can choose one whose scene is loaded

Source = Callable[[], EpisodeRequest | None]
"""Gives the next episode to do; None means nothing for now, so it is asked again later."""

Instruct = Callable[[str, int], str]
"""Suite and task number -> the instruction given to the policy."""


class Waiting:
    """Takes episodes from their source a little early and gives every slot one that suits it.

    Args:
        pool: The slots.
        source: Gives the episodes to do.
        instruct: Says what a task is called.
    """

    def __init__(self, pool: EnvPool, source: Source, instruct: Instruct) -> None:
        self._pool = pool
        self._source = source
        self._instruct = instruct
        self._attempts: deque[Attempt] = deque()

    def __len__(self) -> int:
        return len(self._attempts)

    def look_ahead(self) -> None:
        """Take requests until there is a choice; an episode is the same wherever and whenever it runs."""
        while len(self) < max(LOOK_AHEAD, self._pool.num_slots):
            request = self._source()
            if request is None:
                return
            state = request.initial_state
            task = self._instruct(state.suite, state.task_id)
            self._attempts.append(Attempt(request=request, task=task))

    def take(self, slot: int, num_active: int) -> Attempt | None:
        """Return the attempt that a free slot should begin, None to leave it free.

        Args:
            slot: The free slot.
            num_active: Episodes under way in its worker.
        """
        scenes = [attempt.scene for attempt in self._attempts]
        position = choose(self._pool, slot, scenes, num_active)
        if position is None:
            return None
        attempt = self._attempts[position]
        del self._attempts[position]
        return attempt

    def put_first(self, attempt: Attempt) -> None:
        """Let an attempt wait before all others."""
        self._attempts.appendleft(attempt)
