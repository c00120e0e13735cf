"""The episodes that wait for a slot, and which of them a free slot takes so that few scenes are built."""

from collections import deque
from collections.abc import Callable, Sequence

from pi0.ript.env.pool.ledger import SceneKey
from pi0.ript.env.rollout.attempt import Attempt
from pi0.ript.interfaces import EnvPool
from pi0.ript.types import EpisodeRequest

LEAST_ACTIVE = 1  # a worker with fewer episodes than this under way has nothing to do
FETCH_AHEAD = 64  # requests taken early, so that a slot can choose one whose scene is loaded

Source = Callable[[], EpisodeRequest | None]
"""Returns the next episode to run; None means nothing for now, so it is called again later."""


def no_more() -> None:
    """Return no episode: the source of those who have none."""


Instruct = Callable[[str, int], str]
"""Returns the instruction given to the policy, from suite and task number."""


def choose(pool: EnvPool, slot: int, waiting: Sequence[SceneKey], num_active: int) -> int | None:
    """Return the index of the episode that a free slot should take, or None to leave it free.

    In this order: an episode whose scene the slot's worker has; one whose scene no worker has; any
    other, but only if the worker is idle, because building a second copy of a scene costs as much as
    several episodes. Scenes that do not fit are left for later.

    Args:
        pool: The slots and their scenes.
        slot: The free slot.
        waiting: The scene of every waiting episode, in order of request.
        num_active: Episodes under way in the slot's worker.
    """
    loaded = pool.loaded_scenes(slot)
    fitting = [n for n, scene in enumerate(waiting) if pool.can_restore(slot, scene)]
    for index in fitting:
        if waiting[index] in loaded:
            return index
    anywhere = _loaded_anywhere(pool)
    for index in fitting:
        if waiting[index] not in anywhere:
            return index
    return fitting[0] if fitting and num_active < LEAST_ACTIVE else None


def _loaded_anywhere(pool: EnvPool) -> frozenset[SceneKey]:
    # Slots 0 .. num_workers - 1 belong to different workers.
    return frozenset().union(*(pool.loaded_scenes(slot) for slot in range(pool.num_workers)))


class Waiting:
    """Takes episodes from their source a little early and gives every slot one that suits it.

    Args:
        pool: The slots.
        source: Returns the episodes to run.
        instruct: Returns the instruction of a task.
        spare: Returns episodes that will probably be needed.
    """

    def __init__(
        self, pool: EnvPool, source: Source, instruct: Instruct, spare: Source = no_more
    ) -> None:
        self._pool = pool
        self._source = source
        self._spare = spare
        self._instruct = instruct
        self._attempts: deque[Attempt] = deque()

    def __len__(self) -> int:
        return len(self._attempts)

    def fetch_ahead(self) -> None:
        """Take requests until there is a choice; an episode is the same wherever and whenever it runs."""
        while len(self) < max(FETCH_AHEAD, self._pool.num_slots) and self._fetch(self._source):
            pass

    def fetch_spare(self) -> bool:
        """Take one request that is not needed yet; return whether there is any."""
        return self._fetch(self._spare)

    def _fetch(self, source: Source) -> bool:
        request = source()
        if request is None:
            return False
        state = request.initial_state
        task = self._instruct(state.suite, state.task_id)
        self._attempts.append(Attempt(request=request, task=task))
        return True

    def take(self, slot: int, num_active: int) -> Attempt | None:
        """Return the attempt that a free slot should begin, None to leave it free.

        Args:
            slot: The free slot.
            num_active: Episodes under way in its worker.
        """
        scenes = [attempt.scene for attempt in self._attempts]
        index = choose(self._pool, slot, scenes, num_active)
        if index is None:
            return None
        attempt = self._attempts[index]
        del self._attempts[index]
        return attempt

    def put_first(self, attempt: Attempt) -> None:
        """Put an attempt before all others."""
        self._attempts.appendleft(attempt)
