"""Small LeRobotDatasets of every version, written for the tests: gray frames with a red corner.

Frame i of episode e is ``20 e + 5 i`` gray, its upper left 8 x 8 pixels red, as a human sees it; ``image2`` is upside
down. The golden sets that LeRobot itself wrote show the same.
"""

import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SIZE = 64
LENGTHS = (12, 9, 7)
TASKS = ("turn on the stove", "open the drawer")
TASK_OF_EPISODE = (0, 1, 0)
CAMERAS = ("agentview", "robot0_eye_in_hand")
KEYS = ("observation.images.image", "observation.images.image2")
FPS = 10


def frame(episode: int, number: int, camera: int) -> np.ndarray:
    """As a human sees it: data sets hold it so, LIBERO turned by 180 degrees."""
    image = np.full((SIZE, SIZE, 3), 20 * episode + 5 * number, np.uint8)
    image[:8, :8] = (255, 0, 0)
    return image[::-1] if camera else image


def states(episode: int) -> np.ndarray:
    rng = np.random.default_rng(episode)
    state = rng.uniform(-1, 1, (LENGTHS[episode], 8))
    state[:, 3:6] *= 2.5  # axis-angles of more than pi among them
    return state.astype(np.float32)


def actions(episode: int) -> np.ndarray:
    rng = np.random.default_rng(100 + episode)
    return rng.uniform(-1, 1, (LENGTHS[episode], 7)).astype(np.float32)


def write_set(
    folder: Path, version: str = "v3.0", *, is_video: bool = False, **changes: Any
) -> Path:
    """Write a data set; ``changes`` replace keys of ``info.json``."""
    is_v3 = version == "v3.0"
    (folder / "meta").mkdir(parents=True)
    info = _info(version, is_video=is_video) | changes
    (folder / "meta/info.json").write_text(json.dumps(info))
    tables = [_table(episode, is_video=is_video) for episode in range(len(LENGTHS))]
    if is_v3:
        _write_v3(folder, tables)
    else:
        _write_v2(folder, tables)
    if is_video:
        _write_videos(folder, is_v3=is_v3)
    return folder


def _info(version: str, *, is_video: bool) -> dict[str, Any]:
    image = {"dtype": "video" if is_video else "image", "shape": [SIZE, SIZE, 3]}
    if is_video:
        image["info"] = {"video.fps": FPS}
    info = {
        "codebase_version": version,
        "fps": FPS,
        "total_episodes": len(LENGTHS),
        "total_frames": sum(LENGTHS),
        "chunks_size": 2,
        "features": {
            **dict.fromkeys(KEYS, image),
            "observation.state": {"dtype": "float32", "shape": [8]},
            "action": {"dtype": "float32", "shape": [7]},
        },
    }
    if version != "v3.0":
        info["data_path"] = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
        info["video_path"] = (
            "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
        )
    return info


def _table(episode: int, *, is_video: bool) -> pa.Table:
    length = LENGTHS[episode]
    first = sum(LENGTHS[:episode])
    columns: dict[str, Any] = {}
    if not is_video:
        for camera, key in enumerate(KEYS):
            rows = [{"bytes": _png(frame(episode, n, camera)), "path": ""} for n in range(length)]
            columns[key] = pa.array(
                rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            )
    columns["observation.state"] = pa.array(states(episode).tolist(), pa.list_(pa.float32()))
    columns["action"] = pa.FixedSizeListArray.from_arrays(actions(episode).ravel(), 7)
    columns["timestamp"] = pa.array((np.arange(length) / FPS).astype(np.float32))
    columns["frame_index"] = pa.array(np.arange(length))
    columns["episode_index"] = pa.array(np.full(length, episode))
    columns["index"] = pa.array(np.arange(first, first + length))
    columns["task_index"] = pa.array(np.full(length, TASK_OF_EPISODE[episode]))
    return pa.table(columns)


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG")
    return buffer.getvalue()


def _write_v3(folder: Path, tables: list[pa.Table]) -> None:
    data = folder / "data/chunk-000/file-000.parquet"
    data.parent.mkdir(parents=True)
    with pq.ParquetWriter(data, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    starts = np.cumsum([0, *LENGTHS])[:-1] / FPS
    columns: dict[str, Any] = {
        "episode_index": range(len(LENGTHS)),
        "length": LENGTHS,
        "data/chunk_index": [0] * len(LENGTHS),
        "data/file_index": [0] * len(LENGTHS),
    }
    for key in KEYS:
        columns[f"videos/{key}/chunk_index"] = [0] * len(LENGTHS)
        columns[f"videos/{key}/file_index"] = [0] * len(LENGTHS)
        columns[f"videos/{key}/from_timestamp"] = starts
    episodes = folder / "meta/episodes/chunk-000/file-000.parquet"
    episodes.parent.mkdir(parents=True)
    pq.write_table(pa.table({name: pa.array(list(c)) for name, c in columns.items()}), episodes)
    write_tasks(folder, has_metadata=True)


def write_tasks(folder: Path, *, has_metadata: bool) -> None:
    table = pa.table({"task_index": pa.array(range(len(TASKS))), "task": pa.array(TASKS)})
    if has_metadata:
        table = table.replace_schema_metadata({"pandas": json.dumps({"index_columns": ["task"]})})
    pq.write_table(table, folder / "meta/tasks.parquet")


def _write_v2(folder: Path, tables: list[pa.Table]) -> None:
    lines = [
        {"episode_index": n, "tasks": [TASKS[TASK_OF_EPISODE[n]]], "length": length}
        for n, length in enumerate(LENGTHS)
    ]
    write_lines(folder / "meta/episodes.jsonl", lines)
    write_lines(
        folder / "meta/tasks.jsonl",
        [{"task_index": n, "task": task} for n, task in enumerate(TASKS)],
    )
    for n, table in enumerate(tables):
        path = folder / f"data/chunk-{n // 2:03d}/episode_{n:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _write_videos(folder: Path, *, is_v3: bool) -> None:
    for camera, key in enumerate(KEYS):
        episodes = [
            [frame(e, n, camera) for n in range(length)] for e, length in enumerate(LENGTHS)
        ]
        if is_v3:
            everything = [image for images in episodes for image in images]
            write_video(folder / f"videos/{key}/chunk-000/file-000.mp4", everything)
            continue
        for n, images in enumerate(episodes):
            write_video(folder / f"videos/chunk-{n // 2:03d}/{key}/episode_{n:06d}.mp4", images)


def write_video(path: Path, images: list[np.ndarray], fps: int = FPS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(fps), options={"g": "4", "crf": "10"}
        )
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image))))
        container.mux(stream.encode())
