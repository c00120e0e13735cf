"""How simulator processes are started: what they inherit and where they import from.

Neither depends on the folder that the program runs in, and nothing is inherited that simulators do not need.
"""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from pi0.ript.env.libero.headless import EGL_VARIABLE
from pi0.ript.env.pool import start

# One simulator per core: rendering and linear algebra must not start threads that fight.
SINGLE_THREADED = {"LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# A list of what is needed and not of what is secret: names of keys and tokens cannot all be known. Not in it is
# CUDA_VISIBLE_DEVICES: simulators compute nothing on a GPU, and robosuite stumbles over it.
INHERITED = re.compile(
    "|".join(
        (
            "PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_[A-Z]+|TZ|TMPDIR|TMP|TEMP|TERM",
            "XDG_(CACHE_HOME|CONFIG_HOME|DATA_HOME|RUNTIME_DIR)",
            "LD_(LIBRARY_PATH|PRELOAD)|MALLOC_[A-Z_]+|GLIBC_TUNABLES|JE_MALLOC_CONF|ASAN_OPTIONS",
            "PYTHON[A-Z]+|VIRTUAL_ENV|CONDA_PREFIX|COVERAGE_[A-Z_]+",
            "MUJOCO_[A-Z_]+|PYOPENGL_[A-Z_]+|DISPLAY|DRI_PRIME",
            "(__)?(EGL|GLX|GL|GLVND|LIBGL|MESA|GALLIUM|NV|VK|LP)_[A-Za-z_]+",
            "NVIDIA_(VISIBLE_DEVICES|DRIVER_CAPABILITIES)",
            "NUMBA_[A-Z_]+|(OMP|OPENBLAS|MKL|KMP|GOMP)_[A-Z_]+",
            "LIBERO_[A-Z_]+|RIPT_[A-Z_]+",
        )
    )
)


def simulator_command(module: str, *arguments: object) -> list[str]:
    """Return the command line of a module of this package that loads simulators, or starts what does."""
    return [sys.executable, "-P", start.__file__, module, *map(str, arguments)]


def simulator_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a process with simulators inherits: a list of names, API keys not among them.

    Entries of ``PYTHONPATH`` that mean the current folder, or one below it, are left out.
    """
    inherited = {key: value for key, value in environment.items() if INHERITED.fullmatch(key)}
    entries = inherited.pop("PYTHONPATH", "").split(os.pathsep)
    paths = [entry for entry in entries if Path(entry).is_absolute()]
    return inherited | ({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})


def worker_environment(egl_device: int | None) -> dict[str, str]:
    """Return the environment of a worker: single-threaded, drawing on the given GPU.

    Args:
        egl_device: Index among the devices of EGL; None keeps what the environment says.
    """
    return {**simulator_environment(os.environ), **SINGLE_THREADED, **_drawing(egl_device)}


def actor_environment(egl_device: int | None) -> dict[str, str]:
    """Return what an actor of a cluster needs beside the environment of its host.

    Args:
        egl_device: Index among the devices of EGL; None keeps what the environment says.
    """
    return {**SINGLE_THREADED, **_drawing(egl_device)}


def _drawing(egl_device: int | None) -> dict[str, str]:
    return {} if egl_device is None else {EGL_VARIABLE: str(egl_device)}
