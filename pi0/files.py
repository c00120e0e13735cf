"""Files of a checkpoint: what cannot be read is never taken as absent, what is written appears whole."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# how files begin that are not what their names say
_LFS = b"version https://git-lfs"
_WEB_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<error")


def is_there(path: Path) -> bool:
    """Return whether something lies at a path.

    Raises:
        FileNotFoundError: A link lies there whose file is gone.
        PermissionError: It is not allowed to look.
    """
    try:
        path.stat()
    except PermissionError:
        raise PermissionError(
            f"{path} cannot be looked at, permission denied; ask its owner for chmod -R a+rX"
        ) from None
    except OSError:
        if path.is_symlink():
            raise FileNotFoundError(
                f"{path} is a link that points to {path.readlink()}, which does not exist; copy the folder "
                "with the files that its links point to (cp -rL, or hf download NAME --local-dir DIR)"
            ) from None
        return False
    return True


def refuse_stand_in(path: Path) -> None:
    """Raise ValueError for a pointer of Git LFS or a web page that lies in the place of a file.

    Raises:
        PermissionError: It is not allowed to read the file.
    """
    try:
        with path.open("rb") as file:
            start = file.read(200)
    except PermissionError:
        raise PermissionError(
            f"{path} cannot be read, permission denied; ask its owner for chmod -R a+rX"
        ) from None
    if start.startswith(_LFS):
        size = start.partition(b"size ")[2].split(maxsplit=1)[:1]
        bytes_there = f"its {size[0].decode(errors='replace')} bytes" if size else "its content"
        raise ValueError(
            f"{path} is a pointer of Git LFS, {bytes_there} were never fetched; run 'git lfs pull' in "
            "the clone it came from"
        )
    if start.lstrip().lower().startswith(_WEB_PAGES):
        raise ValueError(
            f"{path} is a web page, such as a login or an error, and not the file; download it again"
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, with one-line errors that name the file."""
    if not is_there(path):
        raise FileNotFoundError(f"{path} does not exist; the checkpoint folder is incomplete")
    refuse_stand_in(path)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); copy the file again") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(raw).__name__}")
    return raw


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace ``path`` by ``content`` (text as UTF-8); on an error the earlier file is untouched.

    Raises:
        OSError: The disk is full, or the folder is absent or not writable; names ``path``.
    """
    data = content.encode() if isinstance(content, str) else content
    fill_atomically(path, lambda temporary: temporary.write_bytes(data))


def fill_atomically(path: Path, fill: Callable[[Path], object]) -> None:
    """Let ``fill`` write a file beside ``path``, then put it in its place in one move, or leave nothing behind.

    Raises:
        OSError: The disk is full, or the folder is absent or not writable; names ``path``.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        fill(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        # Python names a file that cannot be opened, but not one that cannot be written.
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)
