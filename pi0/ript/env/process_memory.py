"""Giving memory back to the system after scenes have come and gone."""

import ctypes
import ctypes.util
import gc


def trim() -> None:
    """Return freed memory to the system (about 0.1 s).

    A scene leaves reference cycles behind, through which robosuite's objects keep the compiled
    model alive, and malloc keeps freed pages for itself, in pieces that never fit the next scene.
    """
    gc.collect()
    library = ctypes.CDLL(ctypes.util.find_library("c"))
    if hasattr(library, "malloc_trim"):  # glibc only
        library.malloc_trim(0)


def forget_assets() -> None:
    """Empty MuJoCo's cache of decoded meshes and textures, 0.25 to 0.5 GB after a first scene.

    It saves the next scene half of its building time, so it is worth its memory only where more
    scenes follow.
    """
    # A process that only plans rollouts must not load the simulator.
    import mujoco  # noqa: PLC0415

    if hasattr(mujoco, "mj_clearCache"):  # older releases have no such cache
        mujoco.mj_clearCache(mujoco.mj_getCache())  # pyright: ignore[reportAttributeAccessIssue]
