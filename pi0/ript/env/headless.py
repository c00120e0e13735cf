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


def load_scene_class() -> "type[Scene]":
    """Return the ``Scene`` class, loading MuJoCo, robosuite and LIBERO on first use.

    Raises:
        ImportError: The library for headless rendering is missing; names the packages to install.
    """
    backend = os.environ["MUJOCO_GL"].lower()
    library = LIBRARIES.get(backend)
    if library is not None and ctypes.util.find_library(library) is None:
        raise ImportError(
            f"MUJOCO_GL={backend} needs lib{library}, which is not installed: "
            f"apt-get install {PACKAGES[backend]}"
        )
    # A process that only plans rollouts must not pay for the simulator (2 s and 200 MB).
    from pi0.ript.env.scene import Scene  # noqa: PLC0415

    return Scene
