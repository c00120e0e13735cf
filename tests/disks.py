"""A disk of a few bytes, for tests of what happens when it is full or can no longer be written."""

import mmap
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

PAGE = mmap.PAGESIZE  # what a disk in memory gives away at a time

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount an empty disk of ``size`` (e.g. ``2m``) on a folder."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.decode()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def remount(folder: Path, options: str) -> None:
    """Change the options of a mounted disk, e.g. ``size=20m`` or ``ro``."""
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def fill(disk: Path, pages_left: int = 0) -> None:
    """Write ``ballast`` until nothing, or only so many pages, can be written to a disk in memory."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        with suppress(OSError):
            while file.write(bytes(PAGE)):
                pass
        file.truncate(file.tell() - pages_left * PAGE)


def leave_half_a_line(path: Path, room: int = 100) -> None:
    """Append spaces, which JSON ignores, until only ``room`` bytes fit into the file's last page."""
    with path.open("ab") as file:
        file.write(b" " * (-(file.tell() + room) % PAGE))


@contextmanager
def failing_disk(folder: Path, image: Path) -> Iterator[Path]:
    """Mount an ext4 disk that becomes read-only at the first error, as those of most machines do."""
    folder.mkdir()
    image.write_bytes(bytes(8 * 2**20))
    done = subprocess.run(["mkfs.ext4", "-q", "-F", image], capture_output=True, check=False)
    if done.returncode or not _mount(folder, image):
        pytest.skip("no ext4 disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fail(folder: Path) -> None:
    """Report an error of a mounted ext4 disk to the kernel, which makes it read-only."""
    source = subprocess.run(
        ["findmnt", "--noheadings", "--output", "SOURCE", folder],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    with suppress(OSError):  # it becomes read-only before the write returns
        Path(f"/sys/fs/ext4/{Path(source).name}/trigger_fs_error").write_text("1")


def repair(folder: Path, image: Path) -> None:
    """Check a failed disk, as one does, and mount it again."""
    subprocess.run(["umount", folder], check=True)
    subprocess.run(["e2fsck", "-p", image], capture_output=True, check=False)
    assert _mount(folder, image)


def _mount(folder: Path, image: Path) -> bool:
    command = ["mount", "-o", "loop,errors=remount-ro", image, folder]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
