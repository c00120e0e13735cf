"""LeRobotDatasets of every version: what is read is what was written, and what is wrong is said in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pi0.codec import raw_state
from pi0.ript.datasets import stored_images
from pi0.ript.datasets.lerobot import open_lerobot
from tests.datasets.lerobot_sets import (
    CAMERAS,
    FPS,
    KEYS,
    LENGTHS,
    SIZE,
    TASKS,
    actions,
    frame,
    states,
    write_lines,
    write_set,
    write_tasks,
    write_video,
)
from tests.golden import golden
from tests.policy_parts import raises_one_line

KINDS = [(v, k) for v in ("v2.0", "v2.1", "v3.0") for k in ("image", "video")]
DATA = "data/chunk-000/file-000.parquet"
VIDEO = f"videos/{KEYS[0]}/chunk-000/file-000.mp4"


def as_libero(episode: int, number: int) -> np.ndarray:
    """Both cameras, [2, 64, 64, 3], as LIBERO would have rendered what the data set shows."""
    return np.stack([frame(episode, number, camera)[::-1, ::-1] for camera in (0, 1)])


@pytest.mark.parametrize(("version", "kind"), KINDS)
def test_every_version_is_read_as_it_was_written(tmp_path: Path, version: str, kind: str):
    frames = open_lerobot(write_set(tmp_path / "set", version, is_video=kind == "video"), CAMERAS)

    assert len(frames) == sum(LENGTHS)
    assert frames.tasks == TASKS
    assert frames.episode_index.tolist() == [0] * 12 + [1] * 9 + [2] * 7
    assert frames.task_index.tolist() == [0] * 12 + [1] * 9 + [0] * 7
    everything = np.concatenate([states(episode) for episode in range(3)])
    assert raw_state(frames.proprio, "axis_angle") == pytest.approx(everything, abs=1e-6)
    # neither in order nor once each: frame 3 of episode 2, frame 0 of episode 0, frame 3 of episode 2, 5 of 1
    images = frames.read_images(np.array([24, 0, 24, 17]))
    wanted = np.stack([as_libero(2, 3), as_libero(0, 0), as_libero(2, 3), as_libero(1, 5)])
    if kind == "image":
        np.testing.assert_array_equal(images, wanted)
    else:
        difference = np.abs(images.astype(int) - wanted)
        assert np.quantile(difference[:, :, 20:44, 20:44], 0.999) <= 2  # away from the red corner
        assert difference.mean() <= 2


def test_chunks_are_the_next_actions_and_hold_the_last_one_of_the_episode(tmp_path: Path):
    frames = open_lerobot(write_set(tmp_path / "set"), CAMERAS)

    chunks = frames.read_chunks(np.array([10, 12]), 4)

    # frame 10 is the last but one of episode 0; frame 12 the first of episode 1
    np.testing.assert_array_equal(chunks[0], actions(0)[[10, 11, 11, 11]])
    np.testing.assert_array_equal(chunks[1], actions(1)[[0, 1, 2, 3]])


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_every_frame_of_a_video_is_found_in_any_order(tmp_path: Path, version: str):
    """Frames that depend on later ones, as x264 makes them, are decoded before they are shown."""
    frames = open_lerobot(write_set(tmp_path / "set", version, is_video=True), CAMERAS)
    inside = np.array(
        [frame(e, n, 0)[40, 40, 0] for e, length in enumerate(LENGTHS) for n in range(length)]
    )

    for number in np.random.default_rng(0).permutation(len(frames)):
        image = frames.read_images(np.array([number]))[0, 0]
        assert abs(int(image[20, 20, 0]) - int(inside[number])) <= 2


def test_only_the_cameras_of_the_policy_are_read_and_in_its_order(tmp_path: Path):
    folder = write_set(tmp_path / "set")

    wrist_first = open_lerobot(folder, CAMERAS[::-1]).read_images(np.array([3]))
    np.testing.assert_array_equal(wrist_first[0], as_libero(0, 3)[::-1])
    assert open_lerobot(folder, CAMERAS[:1]).read_images(np.array([3])).shape == (
        1,
        1,
        SIZE,
        SIZE,
        3,
    )


def test_a_set_that_does_not_fit_into_the_cache_is_read_all_the_same(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(stored_images, "CACHE_BYTES", 1)
    frames = open_lerobot(write_set(tmp_path / "set"), CAMERAS)

    for number in (0, 27, 0):
        frames.read_images(np.array([number]))
    np.testing.assert_array_equal(frames.read_images(np.array([0, 27]))[1], as_libero(2, 6))


@pytest.mark.parametrize("kind", ["image", "video"])
def test_what_lerobot_wrote_is_read(kind: str):
    frames = open_lerobot(golden(f"lerobot061_{kind}"), CAMERAS)

    assert frames.tasks == TASKS
    assert frames.episode_index.tolist() == [0] * 12 + [1] * 9 + [2] * 7
    images = frames.read_images(np.arange(len(frames)))
    wanted = np.stack([as_libero(e, n) for e, length in enumerate(LENGTHS) for n in range(length)])
    if kind == "image":
        np.testing.assert_array_equal(images, wanted)
    else:
        difference = np.abs(images.astype(int) - wanted)
        assert np.quantile(difference[:, :, 20:44, 20:44], 0.999) <= 2  # away from the red corner
        assert difference.mean() <= 2


def change_info(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "meta/info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def change_table(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    table = change(pq.read_table(path))
    pq.write_table(table, path)


def replaced(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def refused(folder: Path, *parts: str, error: type[Exception] = ValueError) -> None:
    with pytest.raises(error) as found:
        open_lerobot(folder, CAMERAS)
    assert raises_one_line(found.value, str(folder), *parts), found.value


INFO_CHANGES = {
    "another version": (lambda i: i.update(codebase_version="v1.6"), ["codebase_version", "'v1.6'", "converter"]),
    "fps of nothing": (lambda i: i.update(fps=0), ["fps must be a number > 0, got 0"]),
    "mixed fps": (
        lambda i: i["features"]["action"].update(fps=20),
        ["fps of feature action is 20, fps of the data set is 10", "mixed fps"],
    ),
    "details that are text": (
        lambda i: i["features"]["action"].update(info="x"),
        ["info of feature action must be a JSON object, got 'x'"],
    ),
    "no wrist camera": (
        lambda i: i["features"].pop(KEYS[1]),
        ["camera 'robot0_eye_in_hand'", "observation.images.wrist_image", f"they have {KEYS[0]}"],
    ),
    "another action width": (
        lambda i: i["features"]["action"].update(shape=[8]),
        ["feature action has shape [8], LIBERO's has [7]"],
    ),
    "no state": (
        lambda i: i["features"].pop("observation.state"),
        ["features hold neither observation.state nor state"],
    ),
    "other count of episodes": (
        lambda i: i.update(total_episodes=4),
        ["lists 3 episodes", "total_episodes", "is 4"],
    ),
    "path that leads out": (lambda i: i.update(data_path="../{file_index}"), ["data_path", "leads out"]),
    "path with another key": (lambda i: i.update(data_path="{part}"), ["data_path '{part}' is no pattern"]),
}  # fmt: skip


@pytest.mark.parametrize("name", INFO_CHANGES)
def test_a_wrong_header_is_refused(tmp_path: Path, name: str):
    change, parts = INFO_CHANGES[name]
    folder = write_set(tmp_path / "set")
    change_info(folder, change)

    refused(folder, *parts)


def test_a_set_is_read_through_a_path_that_leads_over_a_folder_above(tmp_path: Path):
    write_set(tmp_path / "set")
    (tmp_path / "elsewhere").mkdir()

    assert len(open_lerobot(tmp_path / "elsewhere/../set", CAMERAS)) == 28


def test_tasks_without_index_metadata_are_refused_not_read_as_row_numbers(tmp_path: Path):
    folder = write_set(tmp_path / "set")
    write_tasks(folder, has_metadata=False)

    refused(folder, "meta/tasks.parquet", "'pandas'", "row numbers as instructions")


def test_an_empty_episode_is_refused(tmp_path: Path):
    new, old = write_set(tmp_path / "new"), write_set(tmp_path / "old", "v2.1")
    lengths = pa.array([12, 0, 7])
    change_table(
        new / "meta/episodes/chunk-000/file-000.parquet", lambda t: replaced(t, "length", lengths)
    )
    lines = [{"episode_index": n, "length": length} for n, length in enumerate((12, 0, 7))]
    write_lines(old / "meta/episodes.jsonl", lines)

    refused(new, "episode 1 has length 0", "remove the empty episode")
    refused(old, "meta/episodes.jsonl", "episode 1 has length 0")


TABLE_CHANGES = {
    "a row less": (lambda t: t.slice(1), ["episode 0 has 11 rows, meta says length 12"]),
    "wide actions": (
        lambda t: replaced(t, "action", pa.array([[0.0] * 8] * 28)),
        ["column action has lists of 8 numbers, LIBERO's have 7"],
    ),
    "NaN": (
        lambda t: replaced(t, "action", pa.array([[float("nan")] * 7] * 28)),
        ["column action holds NaN or infinity in row 0"],
    ),
    "words": (
        lambda t: replaced(t, "observation.state", pa.array(["x"] * 28)),
        ["column observation.state must hold lists of 8 numbers, got string"],
    ),
    "another clock": (
        lambda t: replaced(t, "timestamp", pa.array(np.tile(np.float32(0.05), 28))),
        ["timestamp of frame 0 of episode 0 is 0.05, with fps 10 it must be 0"],
    ),
    "unknown task": (
        lambda t: replaced(t, "task_index", pa.array([7] * 28)),
        ["no instruction has task_index 7"],
    ),
    "no images": (lambda t: t.drop_columns([KEYS[1]]), [f"column {KEYS[1]} is missing"]),
    "empty values": (
        lambda t: replaced(t, "frame_index", pa.nulls(28, pa.int64())),
        ["column frame_index has 28 empty values"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE_CHANGES)
def test_a_wrong_table_is_refused(tmp_path: Path, name: str):
    change, parts = TABLE_CHANGES[name]
    folder = write_set(tmp_path / "set")
    change_table(folder / DATA, change)

    refused(folder, *parts)


def test_a_cut_off_table_is_refused(tmp_path: Path):
    folder = write_set(tmp_path / "set")
    cut(folder / DATA, 0.7)

    refused(folder, DATA, "damaged", "copy the file again")


@pytest.mark.parametrize("share", [0.9, 0.5, 0.01])
def test_a_cut_off_video_is_refused(tmp_path: Path, share: float):
    folder = write_set(tmp_path / "set", is_video=True)
    cut(folder / VIDEO, share)

    refused(folder, VIDEO, "copy the file again")


def test_a_video_that_is_cut_behind_its_index_is_refused(tmp_path: Path):
    """LeRobot's own videos have the index first: what is left can be opened."""
    folder = tmp_path / "set"
    shutil.copytree(golden("lerobot061_video"), folder)
    cut(folder / VIDEO, 0.97)

    refused(folder, VIDEO, "cut off", "bytes")


def test_videos_that_differ_from_what_the_set_says_are_refused(tmp_path: Path):
    folder = write_set(tmp_path / "set", is_video=True)
    images = [frame(0, n, 0) for n in range(sum(LENGTHS))]

    write_video(folder / VIDEO, images, fps=2 * FPS)
    refused(folder, VIDEO, "20 frames per second", "fps of the data set is 10")
    write_video(folder / VIDEO, images[:-3])
    refused(folder, VIDEO, "ends at 2.50 s, its episodes need 2.80 s")
    (folder / VIDEO).write_text("version https://git-lfs.github.com/spec/v1\nsize 123\n")
    refused(folder, VIDEO, "pointer of Git LFS")
    (folder / VIDEO).unlink()
    refused(folder, VIDEO, "does not exist", error=FileNotFoundError)


def test_a_row_without_an_image_is_refused_when_it_is_read(tmp_path: Path):
    folder = write_set(tmp_path / "set")
    rows = [{"bytes": None, "path": "elsewhere.png"}] * 28
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    change_table(folder / DATA, lambda t: replaced(t, KEYS[0], pa.array(rows, kind)))

    with pytest.raises(ValueError, match="holds paths instead of images"):
        open_lerobot(folder, CAMERAS).read_images(np.array([0]))


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch):
    folder = write_set(tmp_path / "set")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)

    refused(folder, "needs pyarrow", "pip install 'pi0-ript[data]'")
