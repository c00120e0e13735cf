"""What this machine lets a program use: cores and memory, as its container allows them."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
UNLIMITED = 2**60  # cgroup v1 writes "no limit" as a huge number of bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What is there to be used.

    Attributes:
        num_cores: Cores this process may run on.
        memory_bytes: Memory that could be taken without swapping or being killed.
    """

    num_cores: int
    memory_bytes: int

    def share(self, num_processes: int) -> "Machine":
        """Return what each of several processes may take."""
        return Machine(
            num_cores=max(1, self.num_cores // num_processes),
            memory_bytes=self.memory_bytes // num_processes,
        )


def read_machine(root: Path = ROOT) -> Machine:
    """Return what this process may use: the least of the machine and every enclosing cgroup.

    Args:
        root: Where ``proc`` and ``sys`` are mounted.
    """
    cores = [float(len(os.sched_getaffinity(0)))]
    memory = [_available_memory(root)]
    for folder in _cgroup_folders(root, "cpu"):
        cores += _cpu_limit(folder)
    for folder in _cgroup_folders(root, "memory"):
        memory += _memory_left(folder)
    return Machine(num_cores=max(1, math.ceil(min(cores))), memory_bytes=max(0, min(memory)))


def _available_memory(root: Path) -> int:
    for line in (root / "proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    raise OSError(f"{root / 'proc/meminfo'} does not say how much memory is available")


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders, innermost first, whose limits of a controller hold for this process."""
    membership = root / "proc/self/cgroup"
    if not membership.is_file():
        return
    for line in membership.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if controllers else "")
        # A container sees its own group as the root of the mount, whatever its path is outside.
        inner = mount / path.lstrip("/")
        while inner != mount:
            yield inner
            inner = inner.parent
        yield mount


def _cpu_limit(folder: Path) -> list[float]:
    if (text := _read(folder / "cpu.max")) is not None:
        quota, period = text.split()
    else:
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    if quota in (None, "max", "-1") or period is None:
        return []
    return [int(quota) / int(period)]


def _memory_left(folder: Path) -> list[int]:
    limit = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")
    used = _read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes")
    if limit in (None, "max") or used is None or int(limit) >= UNLIMITED:
        return []
    # Files in the page cache count as used but are given up before anything is killed.
    statistics = (_read(folder / "memory.stat") or "").splitlines()
    numbers = dict(line.split() for line in statistics)
    cache = int(numbers.get("total_inactive_file", numbers.get("inactive_file", 0)))
    return [int(limit) - int(used) + cache]


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None  # the root group has no limits, and other layouts have other files
