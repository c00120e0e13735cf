"""``SHA256SUMS``: which files a folder holds, bit for bit; ``sha256sum -c`` reads it too."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

SUMS_NAME = "SHA256SUMS"


def write_checksums(folder: Path) -> None:
    """List every file of ``folder``, flush all of them to disk and forget their cached bytes.

    What is read afterwards comes from the disk, so checking it shows what has really been written.
    """
    files = _files(folder)
    lines = [f"{_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / SUMS_NAME).write_text("".join(lines))
    for path in [*files, folder / SUMS_NAME]:
        flush(path)
    for path in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        flush(path)


def every_file(_: str) -> bool:
    """Return True: no file is left out."""
    return True


def find_difference(folder: Path, concerns: Callable[[str], bool] = every_file) -> str:
    """Return what differs between ``folder`` and its list in a few words, or an empty string.

    ``concerns`` says of a path below the folder whether it is compared.
    """
    try:
        listed = _read_sums(folder / SUMS_NAME)
    except (OSError, ValueError):
        return f"{SUMS_NAME} is missing or unreadable"
    found = {path.relative_to(folder).as_posix() for path in _files(folder)}
    for name in sorted(filter(concerns, listed.keys() ^ found)):
        return f"{name} is {'missing' if name in listed else f'not in {SUMS_NAME}'}"
    for name, digest in listed.items():
        if concerns(name) and _digest(folder / name) != digest:
            return f"{name} does not hold what was written"
    return ""


def flush(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        if path.is_file():
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _read_sums(path: Path) -> dict[str, str]:
    *lines, rest = path.read_text("ascii").split("\n")
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if rest or not sums or "" in sums or len(sums) != len(lines):
        raise ValueError(f"{path} is cut off, lists nothing or a file twice")
    return sums


def _files(folder: Path) -> list[Path]:
    """Return what belongs to the folder: regular files, never what a link leads to."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.name != SUMS_NAME and (path.is_symlink() or not path.is_dir())
    )


def _digest(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        return "not a file"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
