"""Rendering without a screen: on which device, whether it works here, and what to install if not."""

import ctypes.util
import os
from collections.abc import Mapping

from pi0.ript.config.base import Auto

EGL_VARIABLE = "MUJOCO_EGL_DEVICE_ID"
CUDA_VARIABLE = "CUDA_VISIBLE_DEVICES"


def resolve_egl_device(
    requested: int | Auto, cuda_index: int | None, environment: Mapping[str, str]
) -> int | None:
    """Return the device as EGL counts them, or None to leave the choice to EGL's variable.

    ``auto`` draws where the policy computes. EGL numbers all devices of the machine, CUDA only
    those in CUDA_VISIBLE_DEVICES, so that list is read; where it holds no plain numbers
    (MIG slices, names), a container most often shows its own devices only and the index is right.

    Args:
        requested: ``env.egl_device``.
        cuda_index: The policy's device as CUDA counts them; None on a CPU.
        environment: The environment variables of this process.
    """
    if requested != "auto":
        return requested
    if EGL_VARIABLE in environment:
        return None
    visible = [entry.strip() for entry in environment.get(CUDA_VARIABLE, "").split(",")]
    index = cuda_index or 0
    if index < len(visible) and visible[index].isdigit():
        return int(visible[index])
    return cuda_index


LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}
PACKAGES = {
    "egl": "libegl1 libegl-mesa0 libgl1-mesa-dri libgles2 libopengl0",
    "osmesa": "libosmesa6",
}


class RenderingError(OSError):
    """Headless rendering does not work on this machine; says what to install."""


def require_rendering() -> None:
    """Load MuJoCo and robosuite, and create and free a GL context.

    Raises:
        RenderingError: Headless rendering does not work here; names the packages to install.
    """
    backend = os.environ["MUJOCO_GL"].lower()
    library = LIBRARIES.get(backend)
    if library is not None and ctypes.util.find_library(library) is None:
        raise RenderingError(_advice(backend, f"needs lib{library}, which is not installed"))
    try:
        _probe_rendering()
    except (ImportError, RuntimeError) as error:
        raise RenderingError(_advice(backend, f"found no working driver ({error})")) from None


def _probe_rendering() -> None:
    # A process that only plans rollouts must not pay for the simulator (2 s and 200 MB).
    from robosuite.utils.binding_utils import GLContext  # noqa: PLC0415

    # Without it a context that cannot be created complains of a missing attribute when it is freed.
    GLContext._context = None  # noqa: SLF001 # pyright: ignore[reportAttributeAccessIssue]
    context = GLContext(max_width=8, max_height=8, device_id=-1)
    context.make_current()
    context.free()


def forget_assets() -> None:
    """Empty MuJoCo's cache of decoded meshes and textures, 0.25 to 0.5 GB after a first scene.

    It saves the next scene half of its building time, so it is worth its memory only where more
    scenes follow.
    """
    # A process that only plans rollouts must not load the simulator.
    import mujoco  # noqa: PLC0415

    if hasattr(mujoco, "mj_clearCache"):  # older releases have no such cache
        mujoco.mj_clearCache(mujoco.mj_getCache())  # pyright: ignore[reportAttributeAccessIssue]


def _advice(backend: str, problem: str) -> str:
    packages = PACKAGES.get(backend, PACKAGES["egl"])
    return f"MUJOCO_GL={backend} {problem}: apt-get install {packages}"
