"""Loading the simulator only where it is wanted, with a useful word where it cannot run."""

import ctypes.util
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pi0.ript.env.scene import Scene

LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}
PACKAGES = {
    "egl": "libegl1 libegl-mesa0 libgl1-mesa-dri libgles2 libopengl0",
    "osmesa": "libosmesa6",
}


class RenderingError(OSError):
    """Headless rendering does not work on this machine; says what to install."""


def load_scene_class() -> "type[Scene]":
    """Return the ``Scene`` class, loading MuJoCo, robosuite and LIBERO on first use.

    Raises:
        RenderingError: Headless rendering does not work here; names the packages to install.
    """
    backend = os.environ["MUJOCO_GL"].lower()
    library = LIBRARIES.get(backend)
    if library is not None and ctypes.util.find_library(library) is None:
        raise RenderingError(_advice(backend, f"needs lib{library}, which is not installed"))
    try:
        # A process that only plans rollouts must not pay for the simulator (2 s and 200 MB).
        from pi0.ript.env.renderer import probe_rendering  # noqa: PLC0415
        from pi0.ript.env.scene import Scene  # noqa: PLC0415

        probe_rendering()
    except (ImportError, RuntimeError) as error:
        raise RenderingError(_advice(backend, f"found no working driver ({error})")) from None
    return Scene


def _advice(backend: str, problem: str) -> str:
    packages = PACKAGES.get(backend, PACKAGES["egl"])
    return f"MUJOCO_GL={backend} {problem}: apt-get install {packages}"
