"""The variables that a simulator process must have before it loads a library."""

import os
from pathlib import Path

from pi0.ript.env.libero.headless import CUDA_VARIABLE, EGL_VARIABLE

# One simulator per core: rendering and linear algebra must not start threads that fight.
SINGLE_THREADED = {"LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
PACKAGE_ROOT = str(Path(__file__).parents[4])


def worker_environment(egl_device: int | None) -> dict[str, str]:
    """Return the environment of a worker: ours, single-threaded, drawing on the given GPU.

    Args:
        egl_device: Index among the devices of EGL; None keeps what the environment says.
    """
    environment = {**os.environ, **SINGLE_THREADED, **_import_path(), **_drawing(egl_device)}
    # Simulators compute nothing on a GPU, and robosuite stumbles over an empty list and over one
    # without the device it draws on.
    environment.pop(CUDA_VARIABLE, None)
    return environment


def actor_environment(egl_device: int | None, *, is_this_host: bool) -> dict[str, str]:
    """Return what an actor of a cluster needs beside the environment of its host.

    Args:
        egl_device: Index among the devices of EGL; None keeps what the environment says.
        is_this_host: Whether it runs here; other hosts have the package in other folders.
    """
    path = _import_path() if is_this_host else {}
    return {**SINGLE_THREADED, **_drawing(egl_device), **path}


def _drawing(egl_device: int | None) -> dict[str, str]:
    return {} if egl_device is None else {EGL_VARIABLE: str(egl_device)}


def _import_path() -> dict[str, str]:
    paths = [PACKAGE_ROOT, os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
