"""Which ranks still run and why others have ended, known without a collective.

Every rank registers its process in the store that all share; a rank that fails posts its reason there. A
rank that was killed posts nothing: the ranks of its host notice that its process is gone.
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
REASON_WAIT_S = 2.0  # how long the reason of a rank that has ended may take to arrive
_FAILURE = "failure"
_PROCESS = "process"  # of every rank: its host and process id, empty once it has ended as planned


class StoreTally:
    """A tally in the store: one number holds both counts, so that they are always read together.

    Args:
        name: Of the collection.
        count: Adds to a number of a name in the store and returns it.
        raise_if_lost: Raises RankLostError if a rank has posted a reason for its end.
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
        """Wait ``POLL_EVERY_S``; raise RankLostError if a rank has failed meanwhile."""
        self._raise_if_lost()
        time.sleep(POLL_EVERY_S)


class RankLostError(OSError):
    """Another rank has ended; one line with the reason that it posted."""


class LivenessCheck:
    """What one rank knows of the others.

    Args:
        store: Of all ranks; once it has ended with the launcher, nothing more is known of any rank.
        rank_info: Of this process.
    """

    def __init__(self, store: PrefixStore, rank_info: RankInfo) -> None:
        self._store = store
        self._rank_info = rank_info

    def register(self) -> None:
        """Store the host and process id of this rank."""
        self._store.set(self._key(self._rank_info.rank), f"{_host()} {os.getpid()}")

    def deregister(self) -> None:
        """Store that this rank ends as planned."""
        with suppress(RuntimeError):  # the store has ended with the launcher
            self._store.set(self._key(self._rank_info.rank), "")

    def post_reason(self, reason: str) -> bool:
        """Store why this rank ends, for the others; return whether that was possible."""
        try:
            self._store.set(_FAILURE, reason)
        except RuntimeError:
            return False  # the store has ended with the launcher
        return True

    def posted_reason(self) -> str:
        """Return the reason that a rank has posted for its end; empty if none has."""
        try:
            return self._store.get(_FAILURE).decode() if self._store.check([_FAILURE]) else ""
        except RuntimeError:
            return ""

    def reason(self) -> str:
        """Return why another rank has ended, as far as that can be known from here."""
        if reason := self.posted_reason():
            return reason
        gone = [n for n in range(self._rank_info.world_size) if self._is_gone(n)]
        if not gone:
            return ""
        return f"rank {gone[0]} (process {self._process(gone[0])}) has ended unexpectedly"

    def wait_for_reason(self) -> str:
        """Return the same, waiting up to ``REASON_WAIT_S`` for it."""
        deadline = time.monotonic() + REASON_WAIT_S
        while not (reason := self.reason()) and time.monotonic() < deadline:
            time.sleep(POLL_EVERY_S)
        return reason

    def is_first_running(self) -> bool:
        """Return whether all ranks before this one ran on this host and have ended unexpectedly."""
        return all(self._is_gone(n) for n in range(self._rank_info.rank))

    def _is_gone(self, rank: int) -> bool:
        """Return whether a rank of this host has ended while still registered."""
        process = self._process(rank)
        if not process:
            return False
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        return state in "ZX"

    def _process(self, rank: int) -> str:
        """Return the process id of a rank of this host; empty if not registered or on another host."""
        try:
            key = self._key(rank)
            entry = self._store.get(key).decode() if self._store.check([key]) else ""
        except RuntimeError:
            return ""
        host, _, process = entry.rpartition(" ")
        return process if host == _host() else ""

    def _key(self, rank: int) -> str:
        return f"{_PROCESS}/{rank}"


def _host() -> str:
    return socket.gethostname()
