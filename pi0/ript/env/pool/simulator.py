"""The simulator libraries in a process: loaded when they are first needed, their freed memory given back."""

import ctypes
import ctypes.util
import gc
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pi0.ript.env.libero.headless import RenderingError, require_rendering
from pi0.ript.env.libero.versions import require_verified_versions

if TYPE_CHECKING:
    from pi0.ript.env.libero.scene import Scene


def load_simulator() -> "tuple[Callable[..., Scene], dict[str, str]]":
    """Load MuJoCo, robosuite and LIBERO on first use.

    Returns:
        What makes scenes, which share what they draw with; and what draws here, see ``read_driver``.

    Raises:
        RenderingError: Headless rendering does not work here, or the simulator cannot be imported;
            names what to install.
        UnverifiedVersionError: The engine is not proven for an installed version.
    """
    require_verified_versions()
    driver = require_rendering()
    try:
        # A process that only plans rollouts must not pay for the simulator (2 s and 200 MB).
        from pi0.ript.env.libero.scene import Scene  # noqa: PLC0415
        from pi0.ript.env.libero.shared_drawing import SharedDrawing  # noqa: PLC0415
    except ImportError as error:
        raise RenderingError(
            f"the simulator cannot be imported ({error}); run 'make setup' to repair the installation"
        ) from None
    return partial(Scene, drawing=SharedDrawing()), driver


def find_difference(scene: "Scene", num_steps: int) -> str:
    """Return how a scene differs from LIBERO's own environment; nothing if all is equal."""
    from pi0.ript.env.libero.self_check import find_difference  # noqa: PLC0415 - loads the simulator

    return find_difference(scene, num_steps)


def trim() -> None:
    """Return freed memory to the system (about 0.1 s).

    A scene leaves reference cycles behind, through which robosuite's objects keep the compiled
    model alive, and malloc keeps freed pages for itself, in blocks that never fit the next scene.
    """
    gc.collect()
    library = ctypes.CDLL(ctypes.util.find_library("c"))
    if hasattr(library, "malloc_trim"):  # glibc only
        library.malloc_trim(0)
