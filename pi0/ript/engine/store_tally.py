"""A count of finished groups over all ranks, at which nobody waits for anybody."""

import time
from collections.abc import Callable

from pi0.ript.engine.roll_call import LOOK_EVERY_S

_REJECTED = 2**32  # finished groups are counted below, rejected ones above


class StoreTally:
    """A tally in the store: one number holds both counts, so that they are always read together.

    Args:
        name: Of the collection.
        count: Adds to a number of a name in the store and returns it.
        raise_if_lost: Raises RankLostError if a rank has left a reason for its end.
    """

    def __init__(
        self, name: str, count: Callable[[str, int], int], raise_if_lost: Callable[[], None]
    ) -> None:
        self._name = f"tally/{name}"
        self._count = count
        self._raise_if_lost = raise_if_lost

    def add(self, *, is_rejected: bool) -> None:
        """Count a finished group."""
        self._count(self._name, 1 + _REJECTED * is_rejected)

    def read(self) -> tuple[int, int]:
        """Return (finished, rejected) groups of all ranks."""
        rejected, finished = divmod(self._count(self._name, 0), _REJECTED)
        return finished, rejected

    def pause(self) -> None:
        """Wait a moment; raise RankLostError if a rank has died meanwhile."""
        self._raise_if_lost()
        time.sleep(LOOK_EVERY_S)
