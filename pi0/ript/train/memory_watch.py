"""End a run cleanly before the system kills it for want of memory."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pi0.ript.config.base import Auto
from pi0.ript.env.resources import read_machine

logger = logging.getLogger(__name__)

GB = 10**9
# Building a scene takes 0.8 GB for a moment; two of them may begin between two samples.
DROP_BELOW = 1.0 * GB
STOP_BELOW = 0.5 * GB
SAMPLE_EVERY_S = 1.0


class MemoryLimitError(ValueError):
    """The memory is nearly used up; one line that says by whom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """Resident memory, in bytes.

    Attributes:
        trainer: Of this process.
        workers: Of every simulator process on this machine, in their order.
        left: What is left of the limit.
    """

    trainer: int
    workers: tuple[int, ...]
    left: int

    @property
    def line(self) -> str:
        """Return e.g. ``trainer 1.2 GB, 4 workers 6.1 GB, 0.4 GB left``."""
        workers = f"{len(self.workers)} workers {sum(self.workers) / GB:.1f} GB"
        return f"trainer {self.trainer / GB:.1f} GB, {workers}, {self.left / GB:.1f} GB left"


class MemoryWatch:
    """Samples now and then what is left: warns and drops cached scenes first, then ends the run.

    Args:
        limit_gb: What trainer and simulators may take together; ``auto`` is what the machine or its
            container has.
        worker_pids: Returns the simulator processes.
        drop_scenes: Frees scenes that no episode is in.
        root: Where ``proc`` and ``sys`` are mounted.
        clock: Seconds.
    """

    def __init__(
        self,
        limit_gb: float | Auto,
        worker_pids: Callable[[], Sequence[int]],
        drop_scenes: Callable[[], None],
        *,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit_gb = limit_gb
        self._worker_pids = worker_pids
        self._drop_scenes = drop_scenes
        self._root = root
        self._clock = clock
        self._next_sample = clock()
        self._has_dropped = False

    def use(self) -> MemoryUse:
        """Return what is in use at this moment."""
        trainer = _resident(self._root, os.getpid())
        workers = tuple(_resident(self._root, pid) for pid in self._worker_pids())
        left = read_machine(self._root).memory_bytes
        if self._limit_gb != "auto":
            left = min(left, int(self._limit_gb * GB) - trainer - sum(workers))
        return MemoryUse(trainer=trainer, workers=workers, left=left)

    def sample(self) -> None:
        """See whether enough is left, at most once a second.

        Raises:
            MemoryLimitError: Not even dropping scenes has helped.
        """
        if self._clock() < self._next_sample:
            return
        self._next_sample = self._clock() + SAMPLE_EVERY_S
        use = self.use()
        if use.left >= DROP_BELOW:
            self._has_dropped = False
        elif not self._has_dropped:
            logger.warning("memory is short: %s; dropping cached scenes", use.line)
            self._drop_scenes()
            self._has_dropped = True
        elif use.left < STOP_BELOW:
            raise MemoryLimitError(
                f"the run ends before the memory does: {use.line}; the last finished step is saved; "
                "lower env.max_scenes or env.num_workers, or raise training.memory_limit_gb"
            )

    def metrics(self) -> dict[str, float | str]:
        """Return the metrics of a step."""
        use = self.use()
        return {
            "memory/trainer_gb": use.trainer / GB,
            "memory/workers_gb": sum(use.workers) / GB,
            "memory/left_gb": use.left / GB,
            **{f"memory/worker_{n}_gb": worker / GB for n, worker in enumerate(use.workers)},
        }


def _resident(root: Path, pid: int) -> int:
    """Return the resident bytes of a process; 0 if it has just gone."""
    try:
        pages = (root / f"proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
