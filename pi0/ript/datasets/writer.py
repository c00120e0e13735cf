"""Executed episodes -> a LeRobotDataset v3.0, without LeRobot; the set appears whole or not at all.

Images stand upright and states are LIBERO's eight numbers, as in the public sets, with which such a set mixes.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pi0.codec import raw_state
from pi0.ript.datasets.libero import (
    ACTION_KEYS,
    ACTION_WIDTH,
    CAMERA_KEYS,
    STATE_KEYS,
    STATE_WIDTH,
    turned,
)
from pi0.ript.datasets.packages import import_for
from pi0.ript.datasets.recorded import RecordedEpisode
from pi0.ript.datasets.writer_stats import SetStatistics
from pi0.ript.datasets.writer_tables import png_array, table_schema, task_table
from pi0.ript.datasets.writer_videos import CHUNK_FILES, FileCounter, VideoFiles

ImageStorage = Literal["video", "png"]

FPS = 20  # LIBERO's control steps per second
DATA_MB, VIDEO_MB = 100, 200  # a file that is larger gets no further episode
MEGABYTE = 10**6
STATE, ACTION = STATE_KEYS[0], ACTION_KEYS[0]
MOTORS = ("x", "y", "z", "axis_angle1", "axis_angle2", "axis_angle3")
STATE_NAMES, ACTION_NAMES = (*MOTORS, "finger1", "finger2"), (*MOTORS, "gripper")
# Of every frame, [1]; what LeRobot's own recordings have, where an episode came from, what every set has.
SCALARS = {
    "next.reward": "float32",
    "next.success": "bool",
    "next.done": "bool",
    "seed": "int64",
    "initial_state": "int64",
    "fixture_seed": "int64",
    "libero_task": "int64",
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLayout:
    """What a set looks like.

    Attributes:
        cameras: LIBERO's names, in the order of the episodes' images.
        fps: Frames per second that the set says; 10 mixes with the public sets, which say so of the same frames.
        storage: Images as H.264 ``video``, about one level of 255 off, or as exact ``png`` in the tables.
    """

    cameras: tuple[str, ...]
    fps: int = FPS
    storage: ImageStorage = "video"

    @property
    def image_keys(self) -> tuple[str, ...]:
        """Return the features of the cameras."""
        return tuple(CAMERA_KEYS[camera][0] for camera in self.cameras)


def write_lerobot(folder: Path, episodes: Iterable[RecordedEpisode], layout: SetLayout) -> int:
    """Write a data set, one episode after the other; return how many there were.

    Raises:
        ValueError: Something lies at ``folder``, there is no episode, or pyarrow is not installed.
        OSError: It could not be written; nothing is left then.
    """
    folder = folder.resolve()  # "." has no name, and a link cannot be replaced by a folder
    require_free(folder)
    import_for(folder, "pyarrow")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        with ExitStack() as stack:
            files = _SetFiles(temporary, layout, stack)
            for episode in episodes:
                files.add(episode)
        if not files.rows:
            raise ValueError(f"{folder}: there is no episode to write; nothing was written")
        files.finish()
        _put_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(files.rows)


def _put_in_place(finished: Path, folder: Path) -> None:
    """Move a set to where it belongs; an empty folder stays the same one, as a shell may stand in it."""
    if not folder.is_dir():
        finished.replace(folder)
        return
    for part in sorted(finished.iterdir(), key=lambda part: part.name == "meta"):
        part.replace(folder / part.name)  # meta last, without which nothing is taken for a set


def require_free(folder: Path) -> None:
    """Raise ``ValueError`` if something lies at a folder, other than an empty folder."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"{folder} exists already; choose another folder, or remove it")


@dataclass(slots=True, kw_only=True)
class _Table:
    """The file of rows that is being written."""

    writer: Any
    path: Path


@dataclass(slots=True)
class _SetFiles:
    """The files of a set in the making; ``stack`` closes those that are open when the last episode is in."""

    folder: Path
    layout: SetLayout
    stack: ExitStack
    rows: list[dict[str, Any]] = field(default_factory=list)  # of meta/episodes
    _tasks: dict[str, int] = field(default_factory=dict)
    _stats: SetStatistics = field(default_factory=SetStatistics)
    _places: FileCounter = field(default_factory=FileCounter)
    _videos: dict[str, VideoFiles] = field(default_factory=dict)
    _table: _Table | None = None
    _shape: tuple[int, ...] = ()
    _num_frames: int = 0

    def __post_init__(self) -> None:
        self.stack.callback(self._close_table)
        if self.layout.storage == "video":
            for key in self.layout.image_keys:
                video = VideoFiles(self.folder, key, self.layout.fps, VIDEO_MB * MEGABYTE)
                self._videos[key] = video
                self.stack.callback(video.close)

    def add(self, episode: RecordedEpisode) -> None:
        """Append an episode."""
        images = dict(
            zip(self.layout.image_keys, turned(episode.images).swapaxes(0, 1), strict=True)
        )
        self._shape = self._shape or episode.images.shape[2:]
        assert episode.images.shape[2:] == self._shape, "all episodes have images of one size"
        task_index = self._tasks.setdefault(episode.task, len(self._tasks))
        columns = self._columns(episode, task_index)
        self._stats.add(columns, images)
        row: dict[str, Any] = {
            "episode_index": len(self.rows),
            "tasks": [episode.task],
            "length": len(episode),
            "data/chunk_index": self._places.chunk,
            "data/file_index": self._places.file,
            "dataset_from_index": self._num_frames,
            "dataset_to_index": self._num_frames + len(episode),
        }
        for key, video in self._videos.items():
            row |= video.add(np.ascontiguousarray(images[key]))
        self._write_rows(columns, images)
        self.rows.append(row | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0})
        self._num_frames += len(episode)

    def finish(self) -> None:
        """Write ``meta``, once every other file is closed."""
        arrow, parquet = (import_for(self.folder, name) for name in ("pyarrow", "pyarrow.parquet"))
        meta = self.folder / "meta"
        (meta / "episodes/chunk-000").mkdir(parents=True)
        parquet.write_table(
            arrow.Table.from_pylist(self.rows), meta / "episodes/chunk-000/file-000.parquet"
        )
        parquet.write_table(task_table(arrow, self._tasks), meta / "tasks.parquet")
        (meta / "stats.json").write_text(json.dumps(self._stats.to_dict(), indent=4))
        (meta / "info.json").write_text(json.dumps(self._info(), indent=4))

    def _columns(self, episode: RecordedEpisode, task_index: int) -> dict[str, NDArray[Any]]:
        """Return everything of an episode but its images, in the order of the features."""
        length = len(episode)
        frames = np.arange(length)
        is_last = frames == length - 1
        success = is_last & episode.is_success
        constants = {
            "seed": episode.seed,
            "initial_state": episode.state_index,
            "fixture_seed": episode.fixture_seed,
            "libero_task": episode.task_id,
            "episode_index": len(self.rows),
            "task_index": task_index,
        }
        values = {
            STATE: raw_state(episode.proprio, "axis_angle").astype(np.float32),
            ACTION: episode.actions.astype(np.float32),
            "next.reward": success.astype(np.float32),
            "next.success": success,
            "next.done": is_last,
            "timestamp": (frames / self.layout.fps).astype(np.float32),
            "frame_index": frames,
            "index": self._num_frames + frames,
        } | {name: np.full(length, value, np.int64) for name, value in constants.items()}
        return {name: values[name] for name in (STATE, ACTION, *SCALARS)}

    def _write_rows(
        self, columns: Mapping[str, NDArray[Any]], images: Mapping[str, NDArray[np.uint8]]
    ) -> None:
        arrow = import_for(self.folder, "pyarrow")
        table = self._open_table()
        arrays: dict[str, Any] = {}
        if self.layout.storage == "png":
            arrays = {key: png_array(arrow, frames) for key, frames in images.items()}
        for name, values in columns.items():
            flat = arrow.array(values.reshape(-1))
            is_vector = values.ndim == 2
            arrays[name] = (
                arrow.FixedSizeListArray.from_arrays(flat, values.shape[1]) if is_vector else flat
            )
        schema = table_schema(arrow, self._features())
        # One row group per episode, so that a reader takes one without its neighbors.
        table.writer.write_table(
            arrow.table(
                [arrays[name].cast(schema.field(name).type) for name in schema.names], schema
            )
        )
        if table.path.stat().st_size > DATA_MB * MEGABYTE:
            self._close_table()
            self._places.advance()

    def _open_table(self) -> _Table:
        if self._table is None:
            arrow, parquet = (
                import_for(self.folder, name) for name in ("pyarrow", "pyarrow.parquet")
            )
            path = self.folder / "data" / self._places.name("parquet")
            path.parent.mkdir(parents=True, exist_ok=True)
            writer = parquet.ParquetWriter(path, table_schema(arrow, self._features()))
            self._table = _Table(writer=writer, path=path)
        return self._table

    def _close_table(self) -> None:
        if self._table is not None:
            self._table.writer.close()
            self._table = None

    def _features(self) -> dict[str, Any]:
        image = {
            "dtype": "video" if self.layout.storage == "video" else "image",
            "shape": list(self._shape),
            "names": ["height", "width", "channel"],
        }
        features: dict[str, Any] = {
            key: image | ({"info": self._videos[key].encoding} if key in self._videos else {})
            for key in self.layout.image_keys
        }
        features[STATE] = _vector(STATE_WIDTH, STATE_NAMES)
        features[ACTION] = _vector(ACTION_WIDTH, ACTION_NAMES)
        scalars = {
            name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in SCALARS.items()
        }
        return features | scalars

    def _info(self) -> dict[str, Any]:
        pattern = "chunk-{chunk_index:03d}/file-{file_index:03d}"
        is_video = self.layout.storage == "video"
        return {
            "codebase_version": "v3.0",
            "fps": self.layout.fps,
            "features": self._features(),
            "total_episodes": len(self.rows),
            "total_frames": self._num_frames,
            "total_tasks": len(self._tasks),
            "chunks_size": CHUNK_FILES,
            "data_files_size_in_mb": DATA_MB,
            "video_files_size_in_mb": VIDEO_MB,
            "data_path": f"data/{pattern}.parquet",
            "video_path": f"videos/{{video_key}}/{pattern}.mp4" if is_video else None,
            "robot_type": "panda",
            "splits": {"train": f"0:{len(self.rows)}"},
        }


def _vector(width: int, names: Sequence[str]) -> dict[str, Any]:
    return {"dtype": "float32", "shape": [width], "names": {"motors": list(names)}}
