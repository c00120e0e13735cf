"""The episodes that wait for a slot, and which of them a free slot takes so that scenes are built seldom."""

from collections import deque
from collections.abc import Callable, Sequence

from pi0.ript.env.pool.ledger import SceneKey
from pi0.ript.env.rollout.attempt import Attempt
from pi0.ript.interfaces import EnvPool
from pi0.ript.types import EpisodeRequest

RUNNING_DRY = 1  # a worker with fewer episodes than this under way has nothing to do
FETCH_AHEAD = 64  # requests taken early, so that a slot can choose one whose scene is loaded

Source = Callable[[], EpisodeRequest | None]
"""Gives the next episode to do; None means nothing for now, so it is asked again later."""

Instruct = Callable[[str, int], str]
"""Suite and task number -> the instruction given to the policy."""


def choose(pool: EnvPool, slot: int, waiting: Sequence[SceneKey], num_active: int) -> int | None:
    """Return the position of the episode that a free slot should take, or None to leave it free.

    In this order: an episode whose scene the slot's worker has; one whose scene no worker has; any
    other, but only if the worker is about to run dry, because building a second copy of a scene
    costs as much as several episodes. Scenes that do not fit are left for later.

    Args:
        pool: The slots and their scenes.
        slot: The free slot.
        waiting: The scene of every waiting episode, in order of request.
        num_active: Episodes under way in the slot's worker.
    """
    loaded = pool.loaded_scenes(slot)
    fitting = [n for n, scene in enumerate(waiting) if pool.can_restore(slot, scene)]
    for position in fitting:
        if waiting[position] in loaded:
            return position
    anywhere = _loaded_anywhere(pool)
    for position in fitting:
        if waiting[position] not in anywhere:
            return position
    return fitting[0] if fitting and num_active < RUNNING_DRY else None


def _loaded_anywhere(pool: EnvPool) -> frozenset[SceneKey]:
    # Slots 0 .. num_workers - 1 live in different workers.
    return frozenset().union(*(pool.loaded_scenes(slot) for slot in range(pool.num_workers)))


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

    def fetch_ahead(self) -> None:
        """Take requests until there is a choice; an episode is the same wherever and whenever it runs."""
        while len(self) < max(FETCH_AHEAD, self._pool.num_slots):
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
