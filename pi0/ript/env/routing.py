"""Which waiting episode a free slot takes, so that scenes are built seldom and no core idles."""

from collections.abc import Sequence

from pi0.ript.env.pool.ledger import SceneKey
from pi0.ript.interfaces import EnvPool

RUNNING_DRY = 1  # a worker with fewer episodes than this under way has nothing to do


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
