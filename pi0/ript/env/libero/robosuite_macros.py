"""robosuite's "private macro file", which it imports before anything else of its own; ours instead of the user's.

``pi0.ript.env.libero`` makes robosuite find this file under the name ``robosuite.macros_private``.
"""

import logging
import os
import stat
import tempfile
from pathlib import Path
from types import FunctionType

import numba.core.config
from numba.core.caching import FunctionCache
from robosuite import macros

logger = logging.getLogger(__name__)

SOURCE = Path(macros.__file__).with_name("utils") / "transform_utils.py"


def _probe() -> None:
    """Stand for a function of robosuite."""


def has_cache() -> bool:
    """Return whether numba finds a folder to keep compiled functions of robosuite in."""
    code = _probe.__code__.replace(co_filename=str(SOURCE))
    try:
        FunctionCache(FunctionType(code, {"__name__": "probe"}))
    except RuntimeError:
        return False
    return True


def private_folder(parent: Path) -> Path | None:
    """Return a folder below ``parent`` that nobody else can write, or None.

    Cached functions are code, so a folder that another account could have prepared is not used.
    """
    folder = parent / f"pi0-ript-compiled-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    is_ours = found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return folder if stat.S_ISDIR(found.st_mode) and is_ours else None


def find_cache() -> bool:
    """Return whether there is a cache, if need be in the folder for temporary files."""
    if has_cache():
        return True
    folder = private_folder(Path(tempfile.gettempdir()))
    if folder is not None:
        numba.core.config.CACHE_DIR = str(folder)  # pyright: ignore[reportAttributeAccessIssue]
        if has_cache():
            return True
    logger.warning(
        "numba has no folder to keep compiled functions in, so every simulator process compiles them "
        "again, which takes some seconds; set NUMBA_CACHE_DIR to a folder that can be written"
    )
    return False


# The file is one for all accounts of a machine, and who came first owns it.
macros.FILE_LOGGING_LEVEL = None
macros.CACHE_NUMBA = find_cache()
