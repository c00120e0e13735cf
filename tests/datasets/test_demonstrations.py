"""Demonstrations on disk."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pi0.ript.datasets.demonstrations import (
    Demonstrations,
    load_demonstrations,
    read_num_successes,
    save_demonstrations,
)


def _demos(task_id: int) -> Demonstrations:
    return Demonstrations(
        suite="libero_goal",
        task_id=task_id,
        task="turn on the stove",
        images=np.full((2, 1, 4, 4, 3), task_id, np.uint8),
        proprio=np.arange(18.0).reshape(2, 9),
        actions=np.ones((2, 3, 7), np.float32),
        num_attempts=3,
        num_successes=2,
        num_steps=50,
    )


def test_what_is_saved_is_loaded_in_name_order(tmp_path: Path):
    for task_id in (7, 1):
        save_demonstrations(_demos(task_id), tmp_path)

    first, second = load_demonstrations(tmp_path)

    assert (first.task_id, second.task_id) == (1, 7)
    assert (second.suite, second.task, second.num_attempts) == (
        "libero_goal",
        "turn on the stove",
        3,
    )
    for name in ("images", "proprio", "actions"):
        np.testing.assert_array_equal(getattr(second, name), getattr(_demos(7), name))
        assert getattr(second, name).dtype == getattr(_demos(7), name).dtype
    assert first.episode_index is None
    assert read_num_successes(tmp_path, "libero_goal", 7) == 2
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"}


def test_which_episode_a_frame_is_of_is_kept(tmp_path: Path):
    save_demonstrations(replace(_demos(7), episode_index=np.array([0, 1])), tmp_path)

    assert load_demonstrations(tmp_path)[0].episode_index.tolist() == [0, 1]


def test_the_cameras_of_the_images_are_kept_and_must_be_as_many_names(tmp_path: Path):
    save_demonstrations(replace(_demos(7), cameras=("agentview",)), tmp_path)
    assert load_demonstrations(tmp_path)[0].cameras == ("agentview",)

    for wrong in ((), ("agentview", "robot0_eye_in_hand"), (1,)):
        save_demonstrations(replace(_demos(7), cameras=wrong), tmp_path)
        with pytest.raises(
            ValueError, match=r"damaged \(images .* are not of cameras .*ript demos"
        ):
            load_demonstrations(tmp_path)


def test_a_file_of_an_earlier_version_says_no_cameras(tmp_path: Path):
    path = save_demonstrations(_demos(7), tmp_path)

    assert b"cameras" not in path.read_bytes()
    assert load_demonstrations(tmp_path)[0].cameras is None


def test_others_may_read_the_file_as_they_may_any_other(tmp_path: Path):
    plain = tmp_path / "plain"
    plain.touch()

    path = save_demonstrations(_demos(7), tmp_path)

    assert path.stat().st_mode == plain.stat().st_mode


def test_arrays_that_do_not_belong_together_are_refused(tmp_path: Path):
    save_demonstrations(replace(_demos(7), proprio=np.zeros((3, 9))), tmp_path)

    with pytest.raises(ValueError, match=r"proprio \[3, 9\] .* do not belong together"):
        load_demonstrations(tmp_path)


def test_an_empty_folder_says_how_to_fill_it(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="run: ript demos"):
        load_demonstrations(tmp_path)


def test_a_folder_that_is_called_like_a_file_is_named(tmp_path: Path):
    (tmp_path / "x.safetensors").mkdir()

    with pytest.raises(IsADirectoryError, match=r"x\.safetensors is a folder"):
        load_demonstrations(tmp_path)


def test_a_foreign_file_is_refused(tmp_path: Path):
    save_file({"x": np.zeros(1)}, tmp_path / "model.safetensors")

    with pytest.raises(ValueError, match=r"model\.safetensors holds no demonstrations"):
        load_demonstrations(tmp_path)


def test_a_damaged_file_is_refused_with_its_name_and_what_to_type(tmp_path: Path):
    path = save_demonstrations(_demos(7), tmp_path)
    content = path.read_bytes()

    for damaged in (content[:-8], content[:20], b"", content.replace(b"images", b"imagos")):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"7\.safetensors is damaged .*with: ript demos"):
            load_demonstrations(tmp_path)


def test_a_file_without_a_number_that_belongs_in_it_is_refused(tmp_path: Path):
    path = save_demonstrations(_demos(7), tmp_path)
    path.write_bytes(path.read_bytes().replace(b"num_steps", b"num_stops"))

    with pytest.raises(ValueError, match=r"7\.safetensors is damaged"):
        load_demonstrations(tmp_path)
