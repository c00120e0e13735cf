"""Which ranks live and why others have ended, known without meeting them.

Every rank notes its process in the store that all share; a rank that fails leaves its reason there. That a
rank was killed is seen from its process, by the ranks of its host.
"""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from torch.distributed.distributed_c10d import PrefixStore

from pi0.ript.engine.ranks import RankInfo

_REJECTED = 2**32  # finished groups are counted below, rejected ones above

POLL_EVERY_S = 0.02
FAREWELL_S = 2.0  # how long the reason of a rank that has ended may take to arrive
_FAILURE = "failure"
_PROCESS = (
    "process"  # of every rank: its host and process id, empty once it has ended in an orderly way
)


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
        time.sleep(POLL_EVERY_S)


class RankLostError(OSError):
    """Another rank has ended; one line with what it left as its reason."""


class LivenessCheck:
    """What one rank knows of the others.

    Args:
        store: Of all ranks; when it has gone with the launcher, nothing more is known of anybody.
        rank_info: Where this process is.
    """

    def __init__(self, store: PrefixStore, rank_info: RankInfo) -> None:
        self._store = store
        self._place = rank_info

    def sign_in(self) -> None:
        """Note where this rank runs."""
        self._store.set(self._key(self._place.rank), f"{_host()} {os.getpid()}")

    def sign_out(self) -> None:
        """Note that this rank ends in an orderly way."""
        with suppress(RuntimeError):  # the store has gone with the launcher
            self._store.set(self._key(self._place.rank), "")

    def leave_reason(self, reason: str) -> bool:
        """Tell the others why this rank ends; return whether they can know."""
        try:
            self._store.set(_FAILURE, reason)
        except RuntimeError:
            return False  # the store has gone with the launcher
        return True

    def left_reason(self) -> str:
        """Return the reason that a rank has left for its end; empty where none has."""
        try:
            return self._store.get(_FAILURE).decode() if self._store.check([_FAILURE]) else ""
        except RuntimeError:
            return ""

    def reason(self) -> str:
        """Return why another rank has ended, as far as that can be known from here."""
        if reason := self.left_reason():
            return reason
        dead = [n for n in range(self._place.world_size) if self._has_died(n)]
        return f"rank {dead[0]} (process {self._process(dead[0])}) has died" if dead else ""

    def awaited_reason(self) -> str:
        """Return the same, giving it a moment to arrive."""
        deadline = time.monotonic() + FAREWELL_S
        while not (reason := self.reason()) and time.monotonic() < deadline:
            time.sleep(POLL_EVERY_S)
        return reason

    def is_first_alive(self) -> bool:
        """Return whether all ranks before this one have died on this host."""
        return all(self._has_died(n) for n in range(self._place.rank))

    def _has_died(self, rank: int) -> bool:
        """Return whether a rank of this host has ended without a goodbye."""
        process = self._process(rank)
        if not process:
            return False
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        return state in "ZX"

    def _process(self, rank: int) -> str:
        """Return the process of a rank of this host; empty if it has said goodbye or is elsewhere."""
        try:
            key = self._key(rank)
            said = self._store.get(key).decode() if self._store.check([key]) else ""
        except RuntimeError:
            return ""
        host, _, process = said.rpartition(" ")
        return process if host == _host() else ""

    def _key(self, rank: int) -> str:
        return f"{_PROCESS}/{rank}"


def _host() -> str:
    return socket.gethostname()
