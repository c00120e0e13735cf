"""LIBERO's own recordings, ``<task>_demo.hdf5``: initial states and actions; their images lag and are not read.

LIBERO's script records images one action late and small, and keeps attempts that fail when they are re-played; so the
public data sets were made from states and actions alone, and so is ours (``ript demos --from_hdf5``).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pi0.files import is_there, refuse_stand_in
from pi0.ript.datasets.libero import ACTION_WIDTH
from pi0.ript.datasets.packages import import_for

SUFFIX = "_demo.hdf5"
NOOP_NORM = 1e-4  # of position and rotation deltas, below which an action does nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedActions:
    """One demonstration.

    Attributes:
        name: E.g. ``demo_12``.
        state: float64 [n], the simulator's state in which it began (time, qpos, qvel).
        actions: float32 [T, 7], in order.
    """

    name: str
    state: NDArray[np.float64]
    actions: NDArray[np.float32]


def recordings(path: Path) -> list[Path]:
    """Return a file, or those of a folder, in name order.

    Raises:
        FileNotFoundError: There are none.
    """
    found = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
    if not found or not is_there(found[0]):
        raise FileNotFoundError(
            f"no recordings (*{SUFFIX}) in {path}; give a file or folder of LIBERO's"
        )
    return found


def task_of(path: Path) -> str:
    """Return the name of the task that a file is of."""
    if not path.name.endswith(SUFFIX):
        raise ValueError(
            f"{path}: the name must be a task's with {SUFFIX} behind it, as LIBERO names its files"
        )
    return path.name.removesuffix(SUFFIX)


def read_actions(path: Path) -> list[RecordedActions]:
    """Return the demonstrations of a file, ``demo_0`` first.

    Raises:
        ValueError: The file is cut off, or holds something else; or h5py is not installed.
    """
    with _opened(path) as file:
        data = file.get("data")
        found = re.compile(r"demo_(\d+)")
        names = [name for name in (data or ()) if found.fullmatch(name)]
        if not names:
            raise ValueError(f"{path}: data/demo_0 is missing; give LIBERO's own recordings")
        return [_read(path, data, name) for name in sorted(names, key=lambda n: int(n[5:]))]


def without_noops(actions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the actions that do something: that move the hand, or the fingers otherwise than the one before."""
    kept: list[NDArray[np.float32]] = []
    for action in actions:
        is_still = np.linalg.norm(action[:-1]) < NOOP_NORM
        if not (is_still and (not kept or action[-1] == kept[-1][-1])):
            kept.append(action)
    return np.array(kept, dtype=np.float32).reshape(-1, ACTION_WIDTH)


def _read(path: Path, data: Any, name: str) -> RecordedActions:
    arrays = {key: data[name].get(key) for key in ("actions", "states")}
    for key, array in arrays.items():
        if array is None:
            raise ValueError(f"{path}: data/{name}/{key} is missing; give LIBERO's own recordings")
    actions, states = (np.asarray(arrays[key], dtype=np.float64) for key in ("actions", "states"))
    if actions.ndim != 2 or actions.shape[1] != ACTION_WIDTH or not len(actions):
        raise ValueError(
            f"{path}: data/{name}/actions has shape {list(actions.shape)}, LIBERO's have [T, {ACTION_WIDTH}]"
        )
    if states.ndim != 2 or len(states) != len(actions):
        raise ValueError(
            f"{path}: data/{name}/states has shape {list(states.shape)}, it must have a row for each of "
            f"{len(actions)} actions"
        )
    if not (np.isfinite(actions).all() and np.isfinite(states[0]).all()):
        raise ValueError(f"{path}: data/{name} holds NaN or infinity; copy the file again")
    return RecordedActions(name=name, state=states[0], actions=actions.astype(np.float32))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    hdf5 = import_for(path, "h5py")
    refuse_stand_in(path)
    try:
        file = hdf5.File(path, "r")
    except OSError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path} is damaged or no HDF5 file ({reason:.120}); copy the file again"
        ) from None
    with file:
        yield file
