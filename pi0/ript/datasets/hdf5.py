"""LIBERO's own recordings, ``<task>_demo.hdf5``: initial states and actions; their images lag and are not read.

LIBERO's script records images one action late and small, and keeps attempts that fail when they are re-played; so the
public data sets were made from states and actions alone, and so is ours (``ript demos --from_hdf5``).
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pi0.files import is_there, refuse_stand_in
from pi0.ript.datasets.libero import ACTION_WIDTH
from pi0.ript.datasets.packages import import_for

SUFFIX = "_demo.hdf5"
KEYS = ("actions", "states")
NOOP_NORM = 1e-4  # of position and rotation deltas, below which an action does nothing

Array = NDArray[np.float64]


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
    found = _arrays(path)
    if not found:
        raise ValueError(f"{path}: data holds no demo_0; give LIBERO's own recordings")
    return [_checked(path, name, actions, states) for name, actions, states in found]


def without_noops(actions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the actions that do something: that move the hand, or the fingers otherwise than the one before."""
    kept: list[NDArray[np.float32]] = []
    for action in actions:
        is_still = np.linalg.norm(action[:-1]) < NOOP_NORM
        if not (is_still and (not kept or action[-1] == kept[-1][-1])):
            kept.append(action)
    return np.array(kept, dtype=np.float32).reshape(-1, ACTION_WIDTH)


def _arrays(path: Path) -> list[tuple[str, Array, Array]]:
    """Return name, actions and states of every demonstration; nothing of our own may be raised inside."""
    hdf5 = import_for(path, "h5py")
    refuse_stand_in(path)
    try:
        with hdf5.File(path, "r") as file:
            data = file["data"]
            names = [name for name in data if re.fullmatch(r"demo_\d+", name)]
            found: list[tuple[str, Array, Array]] = []
            for name in sorted(names, key=lambda name: int(name[5:])):
                actions, states = (np.array(data[f"{name}/{key}"], np.float64) for key in KEYS)
                found.append((name, actions, states))
            return found
    # what h5py raises for damage depends on where it is
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path} is damaged or none of LIBERO's recordings ({reason:.120}); copy the file again"
        ) from None


def _checked(path: Path, name: str, actions: Array, states: Array) -> RecordedActions:
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
