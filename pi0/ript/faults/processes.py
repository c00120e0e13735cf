"""The processes of one run, found by a mark in their environment, also after their parent has ended."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MARK_VARIABLE = "RIPT_SOAK_MARK"
WORKER_MODULE = "pi0.ript.env.pool.worker"
SHARED_MEMORY = ("/memfd:", "/dev/shm/")
PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedProcess:
    """A process with the mark in its environment.

    Attributes:
        pid: Its number.
        command: Its command line.
        rss_bytes: Resident memory, in bytes.
    """

    pid: int
    command: tuple[str, ...]
    rss_bytes: int

    @property
    def is_worker(self) -> bool:
        """Return whether it is a simulator process."""
        return WORKER_MODULE in self.command


def marked_processes(mark: str) -> list[MarkedProcess]:
    """Return every process with the mark that has not ended, oldest first; zombies have ended."""
    return [process for pid in _pids() if (process := _read(pid, mark)) is not None]


def shared_segments(mark: str) -> set[str]:
    """Return the shared memory that processes with the mark have open, by file and inode."""
    found: set[str] = set()
    for process in marked_processes(mark):
        found |= _segments(process.pid)
    return found


def left_segments(known: set[str]) -> set[str]:
    """Return which of these segments any process still has open, or still have a file."""
    left = {name for name in known if Path(name.rpartition(" ")[0]).exists()}
    for pid in _pids():
        left |= known & _segments(pid)
    return left


def _pids() -> list[int]:
    return sorted(int(folder.name) for folder in PROC.iterdir() if folder.name.isdigit())


def _read(pid: int, mark: str) -> MarkedProcess | None:
    folder = PROC / str(pid)
    try:
        if f"{MARK_VARIABLE}={mark}".encode() not in (folder / "environ").read_bytes().split(b"\0"):
            return None
        command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
        pages = int((folder / "statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None  # it has ended, or is not ours
    if not command:  # a zombie has no command line any more
        return None
    return MarkedProcess(
        pid=pid, command=tuple(command), rss_bytes=pages * os.sysconf("SC_PAGESIZE")
    )


def _segments(pid: int) -> set[str]:
    try:
        return set(_open_segments(PROC / str(pid) / "fd"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return set()


def _open_segments(folder: Path) -> Iterator[str]:
    for entry in folder.iterdir():
        try:
            target, inode = str(entry.readlink()), entry.stat().st_ino
        except FileNotFoundError:
            continue
        if target.startswith(SHARED_MEMORY):
            yield f"{target.removesuffix(' (deleted)')} {inode}"
