"""Ranks that torchrun started: how they connect, exchange numbers, and end when one of them has ended.

Ranks exchange numbers only. Metrics are gathered, never reduced, so every rank adds up the same numbers in
the same order. Outside of collectives they share a key-value store, which never makes a rank wait.
"""

import importlib.metadata
from collections.abc import Callable
from copy import copy
from datetime import timedelta
from itertools import zip_longest
from typing import Self, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from pi0.ript.config.schema import TrainConfig
from pi0.ript.engine.liveness import LivenessCheck, RankLostError, StoreTally
from pi0.ript.engine.ranks import SINGLE_PROCESS, RankInfo, SingleProcess

PACKAGE = "pi0-ript"

JOIN_S = 60.0
FAILED = 2  # exit status

Result = TypeVar("Result")
Number = TypeVar("Number", np.float64, np.uint8)


class ProcessGroup:
    """The ranks of a job; see ``pi0.ript.interfaces.Ranks``. Use it as a context manager.

    Inside the block a rank that fails posts its reason for rank 0, which alone reports it; every other rank
    ends silently. A rank that was killed posts nothing: the other ranks of its host notice, and the first of
    them that still runs reports it. ``connect`` comes before the first collective.

    Args:
        rank_info: Of this process.
    """

    def __init__(self, rank_info: RankInfo) -> None:
        self.rank_info = rank_info
        self._root_store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=JOIN_S)))
        self._store = PrefixStore("pi0-ript", self._root_store)
        self._liveness = LivenessCheck(self._store, rank_info)
        self._group: dist.ProcessGroup | None = None
        self._aside: dist.ProcessGroup | None = None

    def connect(self, timeout_s: float) -> None:
        """Connect the ranks and take a GPU of this host, if there are any.

        Args:
            timeout_s: Seconds after which a collective counts as failed.
        """
        self.collective(self._liveness.register)
        has_gpu, timeout = torch.cuda.is_available(), timedelta(seconds=timeout_s)
        if has_gpu:
            torch.cuda.set_device(self.rank_info.local_rank % torch.cuda.device_count())
        self.collective(
            lambda: dist.init_process_group(
                "cpu:gloo,cuda:nccl" if has_gpu else "gloo",
                store=PrefixStore("collectives", self._root_store),
                rank=self.rank,
                world_size=self.world_size,
                timeout=timeout,
            )
        )

        aside = self.collective(lambda: dist.new_group(backend="gloo", timeout=timeout))
        assert isinstance(aside, dist.ProcessGroup), "every rank belongs to the group"
        self._aside = aside

    def aside(self) -> "ProcessGroup":
        """Return the same ranks for another thread, whose collectives are separate from this thread's."""
        other = copy(self)
        other._group = self._aside  # noqa: SLF001 - of its own class
        return other

    @property
    def cpu_group(self) -> dist.ProcessGroup:
        """Return torch's process group for CPU tensors, which ``aside`` uses, too."""
        assert self._aside is not None, "connect comes first"
        return self._aside

    @property
    def rank(self) -> int:
        """Return which of the processes this is."""
        return self.rank_info.rank

    @property
    def world_size(self) -> int:
        """Return how many processes there are."""
        return self.rank_info.world_size

    def gather(self, values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Return the values of every rank in rank order. A collective: all ranks call it."""
        return self._gather(np.ascontiguousarray(values, dtype=np.float64))

    def gather_text(self, text: str) -> list[str]:
        """Return the text of every rank in rank order. A collective: all ranks call it."""
        codes = np.frombuffer(text.encode(), np.uint8).copy()
        return [bytes(part).decode() for part in self._gather(codes)]

    def require_same(self, what: str, mine: str, remedy: str) -> None:
        """Refuse to go on unless every rank has the same text. A collective: all ranks call it.

        Raises:
            ValueError: On rank 0, one line that names a rank that differs.
            SystemExit: On every other rank, with status 2 and without a message.
        """
        texts = self.gather_text(mine)
        others = [n for n, text in enumerate(texts) if text != texts[0]]
        if not others:
            return
        if self.rank != 0:
            raise SystemExit(FAILED)
        expected, found = _first_difference(texts[0], texts[others[0]])
        raise ValueError(
            f"rank {others[0]} differs from rank 0 in {what}: "
            f"{found!r} instead of {expected!r}; {remedy}"
        )

    def sum_in_place(self, tensor: torch.Tensor) -> None:
        """Add up a tensor over ranks; every rank ends with the same bits. A collective."""
        self.collective(lambda: dist.all_reduce(tensor))

    def tally(self, name: str) -> StoreTally:
        """Return the tally of a collection, counted in the store."""
        return StoreTally(name, self.count, self.raise_if_lost)

    def count(self, name: str, amount: int) -> int:
        """Add to a number in the store and return it; 0 only reads. Not a collective: no rank waits.

        Raises:
            RankLostError: The store is gone or a rank has posted a reason for its end.
        """
        return self.collective(lambda: self._store.add(name, amount))

    def raise_if_lost(self) -> None:
        """Raise RankLostError if a rank has posted a reason for its end."""
        if reason := self._liveness.posted_reason():
            raise RankLostError(reason)

    def collective(self, action: Callable[[], Result]) -> Result:
        """Return the result of an action in which ranks wait for each other.

        Raises:
            RankLostError: It failed; with the reason that another rank posted, if any.
        """
        try:
            return action()
        except RuntimeError as error:
            self.raise_lost(error)
            found = [*str(error).splitlines(), type(error).__name__][0]
            raise RankLostError(f"another rank has ended without a reason: {found}") from error

    def raise_lost(self, error: RuntimeError) -> None:
        """Raise RankLostError if another rank has ended, which will have caused the error."""
        if reason := self._liveness.wait_for_reason():
            raise RankLostError(reason) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        is_done = error is None or (isinstance(error, SystemExit) and not error.code)
        if is_done and self._aside is None:  # nothing was to be done together: --check, --help
            return
        if error is None:
            self._liveness.deregister()
            dist.destroy_process_group()
            return
        # The process group stays as it is: the others notice when this process has ended.
        if not isinstance(error, SystemExit | KeyboardInterrupt | RankLostError):
            self._post(error)
            return
        reason, is_first = self._liveness.reason(), self._liveness.is_first_running()
        self._liveness.deregister()
        if not is_first:
            raise SystemExit(FAILED) from None
        if reason:  # because of it the launcher ends this rank
            has_text = self.rank == 0 and isinstance(error, KeyboardInterrupt) and str(error)
            raise RankLostError(f"{reason}; {error}" if has_text else reason) from None

    def _post(self, error: BaseException) -> None:
        """Post why this rank ends; end silently if the error is one line, which rank 0 reports."""
        reason = f"rank {self.rank}: {_one_line(error)}"
        if self.rank == 0 or not self._liveness.post_reason(reason):
            return
        if isinstance(error, ValueError | OSError):
            raise SystemExit(FAILED) from None

    def _gather(self, array: NDArray[Number]) -> list[NDArray[Number]]:
        """Return the arrays of every rank, which may differ in length."""
        mine = torch.from_numpy(array)
        sizes = [int(size) for size in self._all_gather(torch.tensor([len(mine)]))]
        padded = mine.new_zeros((max(sizes), *mine.shape[1:]))
        padded[: len(mine)] = mine
        parts = self._all_gather(padded)
        return [part[:size].numpy() for part, size in zip(parts, sizes, strict=True)]

    def _all_gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        self.collective(lambda: dist.all_gather(parts, tensor, group=self._group))
        return parts


def join(rank_info: RankInfo) -> SingleProcess | ProcessGroup:
    """Return the process group that torchrun started, or the single process."""
    return ProcessGroup(rank_info) if rank_info.world_size > 1 else SINGLE_PROCESS


def require_agreement(
    ranks: SingleProcess | ProcessGroup, config: TrainConfig, settings: str
) -> None:
    """Refuse to train with ranks that differ, or that cannot share the groups of a step evenly.

    A collective: all ranks call it.

    Args:
        ranks: The processes.
        config: Of this rank.
        settings: Every setting as text.

    Raises:
        ValueError: On rank 0; one line that names the difference.
        SystemExit: On every other rank, without a message.
    """
    versions = f"{PACKAGE} {importlib.metadata.version(PACKAGE)}, torch {torch.__version__}"
    ranks.require_same("versions", versions, "install the same versions on every host")
    ranks.require_same("settings", settings, "start every rank with the same configuration")
    groups, world_size = config.algo.demo_batch_size, ranks.world_size
    if groups % world_size:
        fitting = [n for n in range(1, groups + 1) if groups % n == 0]
        raise ValueError(
            f"{world_size} ranks cannot share algo.demo_batch_size {groups} evenly; "
            f"start {' or '.join(map(str, fitting))}, "
            f"or set it to {-(-groups // world_size) * world_size}"
        )


def _first_difference(one: str, other: str) -> tuple[str, str]:
    """Return the first lines that differ, without their indentation."""
    lines = zip_longest(one.splitlines(), other.splitlines(), fillvalue="")
    return next((a.strip(), b.strip()) for a, b in lines if a != b)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
