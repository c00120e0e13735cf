"""Written sets are read back by the project's own reader, have LeRobot's metadata, and appear whole or not at all."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pi0.codec import raw_state
from pi0.ript.datasets import writer
from pi0.ript.datasets.opening import open_frames
from pi0.ript.datasets.recorded import RecordedEpisode, load_recorded, save_recorded
from pi0.ript.datasets.writer import SetLayout, write_lerobot
from pi0.ript.scripts.parts.dataset_flags import recordings_for
from pi0.ript.seeding import derive_seed
from tests.datasets.lerobot_sets import CAMERAS
from tests.policy_parts import make_observation, raises_one_line

SIZE = 32
LENGTHS = (5, 3, 4)
TASKS = ("open the drawer", "turn on the stove", "open the drawer")


def episode(number: int, length: int, task: str) -> RecordedEpisode:
    """Smooth images, so that a video keeps them: a ramp that begins elsewhere in every frame."""
    rng = np.random.default_rng(number)
    ramp = np.linspace(40, 200, SIZE)[:, None, None] * np.ones((1, SIZE, 3))
    images = np.stack([[ramp + 3 * frame, ramp[::-1] + number] for frame in range(length)])
    proprio = np.stack([make_observation(rng).proprio for _ in range(length)])
    return RecordedEpisode(
        suite="libero_goal",
        task_id=7 - number,
        task=task,
        state_index=10 + number,
        fixture_seed=number,
        seed=2**62 + number,
        is_success=number != 1,
        images=images.round().astype(np.uint8),
        proprio=proprio,
        actions=rng.uniform(-1, 1, (length, 7)).astype(np.float32),
    )


def episodes() -> list[RecordedEpisode]:
    return [
        episode(n, length, task)
        for n, (length, task) in enumerate(zip(LENGTHS, TASKS, strict=True))
    ]


@pytest.fixture(params=["video", "png"])
def storage(request):
    return request.param


def test_what_was_written_is_read_back(tmp_path, storage):
    layout = SetLayout(cameras=CAMERAS, storage=storage)
    assert write_lerobot(tmp_path / "set", episodes(), layout) == 3
    frames = open_frames(tmp_path / "set", CAMERAS)
    assert frames.episode_index.tolist() == [0] * 5 + [1] * 3 + [2] * 4
    assert [frames.tasks[n] for n in frames.task_index] == [
        task for task, length in zip(TASKS, LENGTHS, strict=True) for _ in range(length)
    ]
    images = frames.read_images(np.arange(12)).astype(int)
    sent = np.concatenate([one.images for one in episodes()]).astype(int)
    assert np.abs(images - sent).max() <= (0 if storage == "png" else 8)
    assert np.abs(images - sent).mean() <= (0 if storage == "png" else 1.2)
    chunks = frames.read_chunks(np.array([3]), 3)[0]
    actions = episodes()[0].actions
    assert np.array_equal(chunks, [actions[3], actions[4], actions[4]])  # the last one is held
    # the state that a policy is given; float32 in the set
    states = raw_state(np.concatenate([one.proprio for one in episodes()]), "axis_angle")
    assert np.allclose(raw_state(frames.proprio, "axis_angle"), states, atol=1e-5)


def test_columns_say_where_an_episode_came_from_and_how_it_ended(tmp_path, storage):
    write_lerobot(tmp_path / "set", episodes(), SetLayout(cameras=CAMERAS, storage=storage))
    table = pq.read_table(tmp_path / "set/data/chunk-000/file-000.parquet").to_pydict()
    assert table["next.success"] == [False] * 4 + [True] + [False] * 3 + [False] * 3 + [True]
    assert table["next.reward"] == [float(done) for done in table["next.success"]]
    assert table["next.done"] == [False] * 4 + [True] + [False] * 2 + [True] + [False] * 3 + [True]
    assert table["seed"][5] == 2**62 + 1
    assert table["initial_state"] == [10] * 5 + [11] * 3 + [12] * 4
    assert (table["fixture_seed"][-1], table["libero_task"][-1]) == (2, 5)
    assert table["timestamp"] == pytest.approx([f / 20 for n in LENGTHS for f in range(n)])
    assert table["index"] == list(range(12))
    assert table["task_index"] == [0] * 5 + [1] * 3 + [0] * 4


def test_metadata_are_those_of_lerobot(tmp_path, storage):
    write_lerobot(tmp_path / "set", episodes(), SetLayout(cameras=CAMERAS, storage=storage, fps=10))
    info = json.loads((tmp_path / "set/meta/info.json").read_text())
    assert (info["fps"], info["total_episodes"], info["total_frames"], info["total_tasks"]) == (
        10,
        3,
        12,
        2,
    )
    file = pq.ParquetFile(tmp_path / "set/data/chunk-000/file-000.parquet")
    stored = [name for name, f in info["features"].items() if f["dtype"] != "video"]
    assert file.schema_arrow.names == stored
    assert file.metadata.num_row_groups == 3
    described = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]
    assert list(described) == stored
    tasks = pq.ParquetFile(tmp_path / "set/meta/tasks.parquet").schema_arrow.metadata
    assert json.loads(tasks[b"pandas"])["index_columns"] == ["task"]
    rows = pq.read_table(tmp_path / "set/meta/episodes").to_pylist()
    assert [(row["dataset_from_index"], row["dataset_to_index"]) for row in rows] == [
        (0, 5),
        (5, 8),
        (8, 12),
    ]
    if storage == "video":
        key = "videos/observation.images.image"
        assert [row[f"{key}/from_timestamp"] for row in rows] == [0.0, 0.5, 0.8]


def test_a_set_may_be_made_in_the_current_folder_and_through_a_link(tmp_path, monkeypatch):
    layout = SetLayout(cameras=CAMERAS, storage="png")
    (tmp_path / "set").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("other")
    monkeypatch.chdir(tmp_path / "set")
    for target in (Path(), Path("../link")):
        with recordings_for(target) as recordings:
            save_recorded(episode(0, 3, "open the drawer"), recordings.folder / "0.safetensors")
            assert write_lerobot(target, recordings.take(), layout) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "other", "set"]
    assert [len(open_frames(folder, CAMERAS)) for folder in (Path(), Path("../other"))] == [3, 3]


def test_statistics_are_exact(tmp_path):
    write_lerobot(tmp_path / "set", episodes(), SetLayout(cameras=CAMERAS, storage="png"))
    stats = json.loads((tmp_path / "set/meta/stats.json").read_text())
    actions = np.concatenate([one.actions for one in episodes()]).astype(np.float64)
    assert stats["action"]["mean"] == pytest.approx(actions.mean(0))
    assert stats["action"]["std"] == pytest.approx(actions.std(0))
    assert stats["action"]["q90"] == pytest.approx(np.quantile(actions, 0.9, axis=0))
    assert stats["action"]["count"] == [12]
    pixels = np.concatenate([one.images[:, 0].reshape(-1, 3) for one in episodes()]) / 255
    image = stats["observation.images.image"]
    assert np.shape(image["mean"]) == (3, 1, 1)
    assert np.ravel(image["mean"]) == pytest.approx(pixels.mean(0))
    assert np.ravel(image["std"]) == pytest.approx(pixels.std(0))
    assert np.ravel(image["max"]) == pytest.approx(pixels.max(0))
    assert np.ravel(image["q50"]) == pytest.approx(np.median(pixels, axis=0), abs=1.01 / 255)


def test_full_files_are_followed_by_others(tmp_path, monkeypatch, storage):
    monkeypatch.setattr(writer, "DATA_MB", -1)
    monkeypatch.setattr(writer, "VIDEO_MB", -1)
    write_lerobot(tmp_path / "set", episodes(), SetLayout(cameras=CAMERAS, storage=storage))
    assert len(list((tmp_path / "set/data").rglob("*.parquet"))) == 3
    frames = open_frames(tmp_path / "set", CAMERAS)
    sent = np.concatenate([one.images for one in episodes()]).astype(int)
    assert np.abs(frames.read_images(np.arange(12)).astype(int) - sent).max() <= 8


def test_a_set_is_whole_or_not_there(tmp_path, storage):
    def failing():
        yield from episodes()[:2]
        raise RuntimeError("the simulator ended")

    layout = SetLayout(cameras=CAMERAS, storage=storage)
    with pytest.raises(RuntimeError, match="the simulator ended"):
        write_lerobot(tmp_path / "set", failing(), layout)
    with pytest.raises(ValueError, match="no episode"):
        write_lerobot(tmp_path / "set", [], layout)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/precious").touch()
    with pytest.raises(ValueError, match="exists already") as error:
        write_lerobot(tmp_path / "set", episodes(), SetLayout(cameras=CAMERAS))
    assert raises_one_line(error.value, "set", "choose another folder")


def test_recorded_episode_comes_back_from_its_file(tmp_path):
    sent = episodes()[0]
    save_recorded(sent, tmp_path / "0.safetensors")
    received = load_recorded(tmp_path / "0.safetensors")
    assert np.array_equal(received.images, sent.images)
    assert np.array_equal(received.proprio, sent.proprio)
    assert np.array_equal(received.actions, sent.actions)
    assert (received.seed, received.task, received.is_success) == (sent.seed, sent.task, True)


# What lerobot-doctor may remark on, and why.
ALLOWED = (
    "4/4 episodes shorter than chunk_size=100",  # ACT's; LIBERO's tasks are solved sooner
    "libero_task: zero variance",  # a set of one task
    "libero_task: ALL 1 dimensions constant",
    "action[6]",  # the gripper is opened or closed
)


def moving(number: int) -> RecordedEpisode:
    """An episode of 60 frames in which everything moves, as of a robot."""
    time = np.linspace(0, 2 + 0.2 * number, 60)
    proprio = np.stack([make_observation(np.random.default_rng(number)).proprio] * 60)
    proprio[:, :3] += 0.1 * np.stack([np.sin(time), np.cos(time), time], axis=1)
    actions = np.stack([0.5 * np.sin((n + 1) * time + number) for n in range(7)], axis=1)
    actions[:, 6] = np.where(time < 1.5, -1, 1)
    return replace(
        episode(number, 60, TASKS[0]),
        task_id=7,
        proprio=proprio,
        actions=actions.astype(np.float32),
        seed=derive_seed("demos", number),
    )


def test_lerobot_doctor_finds_nothing(tmp_path, storage):
    pytest.importorskip("lerobot_doctor", reason="lerobot-doctor is in the dev extra")
    layout = SetLayout(cameras=CAMERAS, storage=storage)
    write_lerobot(tmp_path / "set", map(moving, range(4)), layout)
    program = Path(sys.executable).with_name("lerobot-doctor")
    done = subprocess.run(
        [program, "check", tmp_path / "set", "--ci", "--fail-on", "warn"],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    found = [
        message["message"]
        for check in json.loads(done.stdout)["checks"]
        for message in check["messages"]
        if message["severity"] != "PASS"
    ]
    assert [message for message in found if not message.startswith(ALLOWED)] == []
