"""The ``meta`` folder of a LeRobotDataset, versions 2.0, 2.1 and 3.0: what it holds and where its episodes are."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi0.files import is_there, read_json
from pi0.ript.datasets.parquet import (
    COPY_AGAIN,
    damage_named,
    numbers,
    open_parquet,
    read_columns,
)

INFO = "meta/info.json"
VERSIONS = ("v2.0", "v2.1", "v3.0")
_DEFAULT_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_DEFAULT_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetInfo:
    """``meta/info.json``, checked.

    Attributes:
        folder: The data set.
        version: ``v2.0``, ``v2.1`` or ``v3.0``.
        fps: Frames per second of every table and video.
        features: Name -> dtype, shape and more.
        data_path: Pattern of the tables' paths.
        video_path: Pattern of the videos' paths; empty without videos.
        chunks_size: Episodes per folder (2.x).
        total_episodes: How many there are.
    """

    folder: Path
    version: str
    fps: float
    features: Mapping[str, Mapping[str, Any]]
    data_path: str
    video_path: str
    chunks_size: int
    total_episodes: int

    @property
    def path(self) -> Path:
        """Return the file, for messages."""
        return self.folder / INFO


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSpan:
    """Where an episode is in a video: the file, and the seconds at which its first frame is shown."""

    path: Path
    start_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeFiles:
    """Where an episode is.

    Attributes:
        index: Its number.
        length: Frames, >= 1.
        data: The table with its rows, which may hold other episodes too.
        videos: By name of the feature.
    """

    index: int
    length: int
    data: Path
    videos: Mapping[str, VideoSpan]


def read_info(folder: Path) -> SetInfo:
    """Read ``meta/info.json``.

    Raises:
        FileNotFoundError: There is none.
        ValueError: A key is missing, of another type, or of a version that is not read.
    """
    path = folder / INFO
    raw = read_json(path)
    version = raw.get("codebase_version")
    if version not in VERSIONS:
        raise ValueError(
            f"{path}: codebase_version must be one of {', '.join(VERSIONS)}, got {version!r}; convert the data "
            "set with LeRobot's own converter"
        )
    fps, features = raw.get("fps"), raw.get("features")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not fps > 0:
        raise ValueError(f"{path}: fps must be a number > 0, got {fps!r}; {COPY_AGAIN}")
    if not isinstance(features, dict) or not all(isinstance(f, dict) for f in features.values()):
        raise ValueError(f"{path}: features must say dtype and shape by name; {COPY_AGAIN}")
    is_v3 = version == "v3.0"
    info = SetInfo(
        folder=folder,
        version=version,
        fps=float(fps),
        features=features,
        data_path=_text(path, raw, "data_path", _DEFAULT_DATA if is_v3 else None),
        video_path=_text(path, raw, "video_path", _DEFAULT_VIDEO if is_v3 else ""),
        chunks_size=_count(path, raw, "chunks_size", 1000),
        total_episodes=_count(path, raw, "total_episodes", None),
    )
    _require_one_fps(info)
    return info


def read_tasks(info: SetInfo) -> dict[int, str]:
    """Return the instructions by number.

    Raises:
        ValueError: The file does not say which text a number means.
    """
    if info.version == "v3.0":
        return _tasks_of_parquet(info.folder / "meta/tasks.parquet")
    path = info.folder / "meta/tasks.jsonl"
    pairs = [(line.get("task_index"), line.get("task")) for line in _json_lines(path)]
    if not all(type(number) is int and isinstance(text, str) for number, text in pairs):
        raise ValueError(f"{path}: every line must have task_index and task; {COPY_AGAIN}")
    return dict(pairs)  # pyright: ignore[reportReturnType] - checked above


def read_episodes(info: SetInfo, videos: Sequence[str]) -> list[EpisodeFiles]:
    """Return where every episode is, in order.

    Args:
        info: Of the data set.
        videos: Features that are read from videos.

    Raises:
        ValueError: An episode is empty, or the files list others than ``info.json`` counts.
    """
    episodes = _episodes_v3(info, videos) if info.version == "v3.0" else _episodes_v2(info, videos)
    where = info.folder / ("meta/episodes" if info.version == "v3.0" else "meta/episodes.jsonl")
    for number, episode in enumerate(episodes):
        if episode.index != number:
            raise ValueError(
                f"{where}: episode_index {number} is missing or not in order; {COPY_AGAIN}"
            )
        if episode.length < 1:
            raise ValueError(
                f"{where}: episode {number} has length {episode.length}; remove the empty episode from the data set"
            )
    if len(episodes) != info.total_episodes or not episodes:
        raise ValueError(
            f"{where} lists {len(episodes)} episodes, total_episodes of {info.path} is {info.total_episodes}; "
            "copy the data set again"
        )
    return episodes


def _require_one_fps(info: SetInfo) -> None:
    """Features may repeat the frames per second, under several names; all of them must be the same."""
    for name, feature in info.features.items():
        details = feature.get("info") or feature.get("video_info") or {}
        if not isinstance(details, dict):
            raise ValueError(
                f"{info.path}: info of feature {name} must be a JSON object, got {details!r}; {COPY_AGAIN}"
            )
        for key, value in (("fps", feature.get("fps")), ("video.fps", details.get("video.fps"))):
            if value is not None and value != info.fps:
                raise ValueError(
                    f"{info.path}: {key} of feature {name} is {value}, fps of the data set is {info.fps:g}; "
                    "a set with mixed fps cannot be read, record or convert it with one"
                )


def _episodes_v2(info: SetInfo, videos: Sequence[str]) -> list[EpisodeFiles]:
    path = info.folder / "meta/episodes.jsonl"
    episodes: list[EpisodeFiles] = []
    for line in _json_lines(path):
        index, length = line.get("episode_index"), line.get("length")
        if type(index) is not int or type(length) is not int:
            raise ValueError(f"{path}: every line must have episode_index and length; {COPY_AGAIN}")
        place = {"episode_chunk": index // info.chunks_size, "episode_index": index}
        spans = {
            key: VideoSpan(path=_file(info, "video_path", place | {"video_key": key}), start_s=0.0)
            for key in videos
        }
        data = _file(info, "data_path", place)
        episodes.append(EpisodeFiles(index=index, length=length, data=data, videos=spans))
    return episodes


def _episodes_v3(info: SetInfo, videos: Sequence[str]) -> list[EpisodeFiles]:
    episodes: list[EpisodeFiles] = []
    for path in sorted((info.folder / "meta/episodes").glob("*/*.parquet")):
        names = ["episode_index", "length", "data/chunk_index", "data/file_index"]
        for key in videos:
            names += [
                f"videos/{key}/{what}" for what in ("chunk_index", "file_index", "from_timestamp")
            ]
        table = read_columns(open_parquet(path), path, names)
        columns = {name: numbers(table, path, name) for name in dict.fromkeys(names)}
        rows = [
            dict(zip(names, row, strict=True))
            for row in zip(*(c.tolist() for c in columns.values()), strict=True)
        ]
        episodes += [_episode_v3(info, row, videos) for row in rows]
    return episodes


def _episode_v3(info: SetInfo, row: Mapping[str, Any], videos: Sequence[str]) -> EpisodeFiles:
    def place(prefix: str) -> dict[str, Any]:
        return {name: row[f"{prefix}/{name}"] for name in ("chunk_index", "file_index")}

    spans = {
        key: VideoSpan(
            path=_file(info, "video_path", place(f"videos/{key}") | {"video_key": key}),
            start_s=row[f"videos/{key}/from_timestamp"],
        )
        for key in videos
    }
    data = _file(info, "data_path", place("data"))
    return EpisodeFiles(index=row["episode_index"], length=row["length"], data=data, videos=spans)


def _tasks_of_parquet(path: Path) -> dict[int, str]:
    """Read ``tasks.parquet``, whose pandas metadata say which column holds the instructions."""
    file = open_parquet(path)
    metadata = file.schema_arrow.metadata or {}
    try:
        index = json.loads(metadata.get(b"pandas", b"{}")).get("index_columns", [])
    except (ValueError, AttributeError):
        index = []
    if len(index) != 1 or index[0] not in file.schema_arrow.names:
        raise ValueError(
            f"{path}: the metadata 'pandas' names no index column, got {index!r}, so that LeRobot reads row numbers "
            "as instructions; write it with pandas, the instructions as index"
        )
    table = read_columns(file, path, ["task_index", index[0]])
    with damage_named(path):
        texts = table[index[0]].to_pylist()
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f"{path}: index column {index[0]} must hold instructions, got {texts[:1]!r}; {COPY_AGAIN}"
        )
    return dict(zip(numbers(table, path, "task_index").tolist(), texts, strict=True))


def _json_lines(path: Path) -> list[dict[str, Any]]:
    if not is_there(path):
        raise FileNotFoundError(f"{path} does not exist; copy the data set again")
    found: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            content = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path} line {number} is no JSON ({error}); {COPY_AGAIN}") from None
        if not isinstance(content, dict):
            raise ValueError(f"{path} line {number} must be a JSON object; {COPY_AGAIN}")
        found.append(content)
    return found


def _file(info: SetInfo, key: str, values: Mapping[str, Any]) -> Path:
    """Return a file of the data set; never one outside of it."""
    pattern: str = getattr(info, key)
    try:
        path = info.folder / pattern.format(**values)
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise ValueError(
            f"{info.path}: {key} {pattern!r} is no pattern ({error}); {COPY_AGAIN}"
        ) from None
    if not path.is_relative_to(info.folder) or ".." in path.relative_to(info.folder).parts:
        raise ValueError(f"{info.path}: {key} {pattern!r} leads out of the data set; {COPY_AGAIN}")
    return path


def _text(path: Path, raw: Mapping[str, Any], key: str, default: str | None) -> str:
    value = raw.get(key)
    value = default if value is None else value
    if not isinstance(value, str):
        raise ValueError(f"{path}: {key} must be text, got {value!r}; {COPY_AGAIN}")
    return value


def _count(path: Path, raw: Mapping[str, Any], key: str, default: int | None) -> int:
    value = raw.get(key, default)
    if type(value) is not int or value < 1:
        raise ValueError(f"{path}: {key} must be a number >= 1, got {value!r}; {COPY_AGAIN}")
    return value
