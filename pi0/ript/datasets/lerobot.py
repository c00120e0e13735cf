"""LeRobotDataset, versions 2.0, 2.1 and 3.0, images in tables or in videos, read without LeRobot.

Opening a set reads headers, states and actions, and checks that they agree; images are read frame by frame.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pi0.ript.datasets.frames import Frames, Indices, chunk_indices
from pi0.ript.datasets.lerobot_meta import (
    EpisodeFiles,
    SetInfo,
    read_episodes,
    read_info,
    read_tasks,
)
from pi0.ript.datasets.libero import (
    ACTION_KEYS,
    ACTION_WIDTH,
    CAMERA_KEYS,
    STATE_KEYS,
    STATE_WIDTH,
    proprio_of_state,
    turned,
)
from pi0.ript.datasets.parquet import (
    COPY_AGAIN,
    numbers,
    open_parquet,
    read_columns,
    require_columns,
    vectors,
)
from pi0.ript.datasets.stored_images import StoredImages
from pi0.ript.datasets.videos import VideoFrames, check_video

TIME_TOLERANCE_S = 1e-3  # of timestamps, which are float32

Pixels = NDArray[np.uint8]
ReadFrame = Callable[[Indices], list[Pixels]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """What the set calls what a policy needs."""

    state: str
    action: str
    cameras: tuple[str, ...]

    def videos(self, info: SetInfo) -> list[str]:
        return [key for key in self.cameras if info.features[key].get("dtype") == "video"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Numbers of all frames, in the order of their episodes."""

    states: NDArray[np.float64]
    actions: NDArray[np.float64]
    task_index: Indices
    row: Indices  # within the file of the episode


def open_lerobot(folder: Path, cameras: Sequence[str]) -> Frames:
    """Return the frames of a data set.

    Args:
        folder: Holds ``meta/info.json``.
        cameras: LIBERO's names of the cameras that the policy needs, in its order.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The set lacks a camera, has other widths, contradicts itself, or a file is damaged.
    """
    info = read_info(folder)
    names = _names(info, cameras)
    videos = names.videos(info)
    episodes = read_episodes(info, videos)
    tasks = read_tasks(info)
    rows = _read_rows(info, episodes, names)
    task_index, texts = _numbered(info, tasks, rows.task_index)
    _check_videos(info, episodes, videos)
    lengths = np.array([episode.length for episode in episodes])
    ends = np.cumsum(lengths)
    of_frame = np.repeat(np.arange(len(episodes)), lengths)
    read_frames = _frame_readers(info, episodes, names, rows, of_frame, ends - lengths)
    return Frames(
        source=str(folder),
        tasks=texts,
        task_index=task_index,
        episode_index=of_frame,
        proprio=proprio_of_state(rows.states),
        max_horizon=None,
        read_chunks=lambda frames, horizon: rows.actions[
            chunk_indices(frames, ends[of_frame[frames]], horizon)
        ].astype(np.float32),
        read_images=partial(_read_images, read_frames),
    )


def _names(info: SetInfo, cameras: Sequence[str]) -> _Names:
    images = [n for n, f in info.features.items() if f.get("dtype") in ("image", "video")]
    found: list[str] = []
    for camera in cameras:
        known = CAMERA_KEYS.get(camera, ())
        key = next((key for key in known if key in images), None)
        if key is None:
            raise ValueError(
                f"{info.path}: features hold no images of camera {camera!r} ({' or '.join(known) or 'no known name'}), "
                f"they have {', '.join(images) or 'none'}; give a data set with the policy's cameras"
            )
        _require_image_shape(info, key)
        found.append(key)
    return _Names(
        state=_vector_key(info, STATE_KEYS, STATE_WIDTH),
        action=_vector_key(info, ACTION_KEYS, ACTION_WIDTH),
        cameras=tuple(found),
    )


def _require_image_shape(info: SetInfo, key: str) -> None:
    shape = info.features[key].get("shape")
    is_shape = isinstance(shape, list) and all(type(n) is int and n > 0 for n in shape)
    if not is_shape or shape is None or len(shape) != 3 or shape[2] != 3:
        raise ValueError(
            f"{info.path}: feature {key} has shape {shape}, images have [height, width, 3]; {COPY_AGAIN}"
        )


def _vector_key(info: SetInfo, known: Sequence[str], width: int) -> str:
    key = next((key for key in known if key in info.features), None)
    if key is None:
        raise ValueError(
            f"{info.path}: features hold neither {' nor '.join(known)}; give a data set of LIBERO"
        )
    shape = info.features[key].get("shape")
    if shape != [width]:
        raise ValueError(
            f"{info.path}: feature {key} has shape {shape}, LIBERO's has [{width}]; give a data set of LIBERO"
        )
    return key


def _read_rows(info: SetInfo, episodes: Sequence[EpisodeFiles], names: _Names) -> _Rows:
    parts: list[_Rows] = []
    for path, some in groupby(episodes, key=lambda episode: episode.data):
        parts += _rows_of_file(info, path, list(some), names)
    return _Rows(
        states=np.concatenate([part.states for part in parts]),
        actions=np.concatenate([part.actions for part in parts]),
        task_index=np.concatenate([part.task_index for part in parts]),
        row=np.concatenate([part.row for part in parts]),
    )


def _rows_of_file(
    info: SetInfo, path: Path, episodes: Sequence[EpisodeFiles], names: _Names
) -> list[_Rows]:
    """Return the rows of the episodes of one file."""
    file = open_parquet(path)
    plain = ["episode_index", "frame_index", "task_index", "timestamp"]
    table = read_columns(file, path, [names.state, names.action, *plain])
    videos = names.videos(info)
    require_columns(file, path, [key for key in names.cameras if key not in videos])
    columns = {name: numbers(table, path, name) for name in plain}
    states = vectors(table, path, names.state, STATE_WIDTH)
    actions = vectors(table, path, names.action, ACTION_WIDTH)
    parts: list[_Rows] = []
    for episode in episodes:
        row = np.flatnonzero(columns["episode_index"] == episode.index)
        _check_rows(info, path, episode, {n: column[row] for n, column in columns.items()})
        parts.append(
            _Rows(
                states=states[row],
                actions=actions[row],
                task_index=columns["task_index"][row].astype(np.int64),
                row=row,
            )
        )
    return parts


def _check_rows(
    info: SetInfo, path: Path, episode: EpisodeFiles, columns: Mapping[str, NDArray[Any]]
) -> None:
    frame = columns["frame_index"]
    if len(frame) != episode.length or (frame != np.arange(episode.length)).any():
        raise ValueError(
            f"{path}: episode {episode.index} has {len(frame)} rows, meta says length {episode.length}, and frame_index "
            f"must count them from 0; {COPY_AGAIN}"
        )
    late = np.abs(columns["timestamp"] - frame / info.fps) > TIME_TOLERANCE_S
    if late.any():
        first = int(np.flatnonzero(late)[0])
        raise ValueError(
            f"{path}: timestamp of frame {first} of episode {episode.index} is {columns['timestamp'][first]:g}, with fps "
            f"{info.fps:g} it must be {first / info.fps:g}; a set with mixed fps cannot be read"
        )


def _numbered(
    info: SetInfo, tasks: Mapping[int, str], task_index: Indices
) -> tuple[Indices, tuple[str, ...]]:
    """Return the instructions that occur, and for every frame which of them."""
    used, position = np.unique(task_index, return_inverse=True)
    for number in used.tolist():
        if number not in tasks:
            raise ValueError(
                f"{info.folder / 'meta'}: no instruction has task_index {number}, which frames have; {COPY_AGAIN}"
            )
    return position.astype(np.int64), tuple(tasks[number] for number in used.tolist())


def _check_videos(info: SetInfo, episodes: Sequence[EpisodeFiles], videos: Sequence[str]) -> None:
    for key in videos:
        ends: dict[Path, float] = {}
        for episode in episodes:
            span = episode.videos[key]
            end = span.start_s + episode.length / info.fps
            ends[span.path] = max(end, ends.get(span.path, 0.0))
        for path, end in ends.items():
            check_video(path, info.fps, info.features[key].get("shape") or (), end)


def _frame_readers(
    info: SetInfo,
    episodes: Sequence[EpisodeFiles],
    names: _Names,
    rows: _Rows,
    of_frame: Indices,
    starts: Indices,
) -> list[ReadFrame]:
    """Return, for every camera, what reads its images of chosen frames."""
    videos, tables = VideoFrames(info.fps), StoredImages()

    def from_table(key: str, frames: Indices) -> list[Pixels]:
        return [
            tables.read(episodes[episode].data, key, row)
            for episode, row in zip(
                of_frame[frames].tolist(), rows.row[frames].tolist(), strict=True
            )
        ]

    def from_video(key: str, frames: Indices) -> list[Pixels]:
        images: list[Pixels] = []
        for episode in np.unique(of_frame[frames]).tolist():
            span = episodes[episode].videos[key]
            own = frames[of_frame[frames] == episode] - starts[episode]
            images += videos.read(span.path, (span.start_s + own / info.fps).tolist())
        return images

    in_video = names.videos(info)
    return [partial(from_video if key in in_video else from_table, key) for key in names.cameras]


def _read_images(readers: Sequence[ReadFrame], frames: Indices) -> Pixels:
    """Return uint8 [b, N, height, width, 3]; every frame is read once, in the order of the files."""
    wanted, position = np.unique(frames, return_inverse=True)
    cameras = [read(wanted) for read in readers]
    shapes = {image.shape for images in cameras for image in images}
    if len(shapes) > 1:
        raise ValueError(f"images have several sizes, {sorted(shapes)}; give a data set with one")
    return turned(np.stack([np.stack(images) for images in cameras], axis=1))[position]
