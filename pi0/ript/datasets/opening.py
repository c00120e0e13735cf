"""Any data set that can be fine-tuned on, told apart by what lies in its folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pi0.files import is_there
from pi0.ript.datasets.demonstrations import (
    PATTERN,
    Demonstrations,
    file_of,
    load_demonstrations,
)
from pi0.ript.datasets.frames import Frames, Indices
from pi0.ript.datasets.lerobot import open_lerobot
from pi0.ript.datasets.lerobot_meta import INFO


def open_frames(folder: Path, cameras: Sequence[str]) -> Frames:
    """Return the frames of a LeRobotDataset or of what ``ript demos`` wrote.

    Args:
        folder: The data set.
        cameras: LIBERO's names of the cameras that the policy needs, in its order.

    Raises:
        FileNotFoundError: The folder holds no data set.
        ValueError: The data set is damaged or does not fit.
    """
    require_data_set(folder)
    if is_there(folder / INFO):
        return open_lerobot(folder, cameras)
    return frames_of_demonstrations(load_demonstrations(folder), folder, cameras)


def require_data_set(folder: Path) -> None:
    """See that a folder holds a data set, before a policy is loaded for it; opens none of its files.

    Raises:
        FileNotFoundError: It holds none.
        ValueError: It holds recordings that must be re-played first.
    """
    if is_there(folder / INFO):
        return
    raw = sorted(folder.glob("*.hdf5"))
    if raw and not list(folder.glob(PATTERN)):
        raise ValueError(
            f"{folder} holds LIBERO's recordings ({raw[0].name}), which lag behind their images; re-play them first: "
            "ript demos --from_hdf5"
        )
    if not list(folder.glob(PATTERN)):
        raise FileNotFoundError(
            f"no demonstrations in {folder}: neither {INFO} (LeRobotDataset) nor {PATTERN}; make some with: ript demos"
        )


def frames_of_demonstrations(
    demos: Sequence[Demonstrations], source: Path, cameras: Sequence[str]
) -> Frames:
    """Return the frames of several tasks, one task after the other.

    Raises:
        ValueError: They have other cameras, or action chunks of several lengths.
    """
    for demo in demos:
        if demo.cameras is not None and demo.cameras != tuple(cameras):
            raise ValueError(
                f"{file_of(source, demo.suite, demo.task_id)} has images of {', '.join(demo.cameras)}, the policy needs "
                f"{', '.join(cameras)}, in this order; record it for this policy with: ript demos --policy DIR"
            )
    for what, shapes in (
        ("images", {demo.images.shape[1:] for demo in demos}),
        ("action chunks", {demo.actions.shape[1:] for demo in demos}),
    ):
        if len(shapes) > 1:
            raise ValueError(
                f"{source}: the tasks have {what} of several shapes, {sorted(shapes)}; record them together"
            )
    num_cameras = demos[0].images.shape[1]
    if num_cameras != len(cameras):
        raise ValueError(
            f"{source} has images of {num_cameras} cameras, the policy needs {len(cameras)} ({', '.join(cameras)}); "
            "record it for this policy with: ript demos --policy DIR"
        )
    starts = np.cumsum([0, *map(len, demos)])
    read = _Reader(demos, starts)
    return Frames(
        source=str(source),
        tasks=tuple(demo.task for demo in demos),
        task_index=np.repeat(np.arange(len(demos)), list(map(len, demos))),
        episode_index=_episode_index(demos),
        proprio=np.concatenate([demo.proprio for demo in demos]),
        max_horizon=demos[0].actions.shape[1],
        read_chunks=lambda frames, horizon: read(frames, "actions")[:, :horizon],
        read_images=lambda frames: read(frames, "images"),
    )


def _episode_index(demos: Sequence[Demonstrations]) -> Indices | None:
    """Return the episodes of all tasks, counted on from task to task."""
    parts: list[Indices] = []
    first = 0
    for demo in demos:
        if demo.episode_index is None:
            return None
        parts.append(demo.episode_index + first)
        first += int(demo.episode_index.max(initial=-1)) + 1
    return np.concatenate(parts)


class _Reader:
    """Picks frames out of the arrays of several tasks, without joining those."""

    def __init__(self, demos: Sequence[Demonstrations], starts: Indices) -> None:
        self._demos, self._starts = demos, starts

    def __call__(self, frames: Indices, name: str) -> NDArray[Any]:
        task = np.searchsorted(self._starts, frames, side="right") - 1
        arrays = [getattr(self._demos[t], name) for t in task]
        rows = frames - self._starts[task]
        return np.stack([array[row] for array, row in zip(arrays, rows, strict=True)])
