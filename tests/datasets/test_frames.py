"""Choosing episodes, and what ``ript demos`` wrote as frames."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pi0.codec import raw_state
from pi0.ript.datasets.demonstrations import Demonstrations, save_demonstrations
from pi0.ript.datasets.frames import episode_slice, frames_of_episodes, require_horizon
from pi0.ript.datasets.libero import proprio_of_state
from pi0.ript.datasets.opening import open_frames
from tests.policy_parts import raises_one_line


def _demos(task_id: int, episodes: tuple[int, ...] | None = (0, 0, 1)) -> Demonstrations:
    return Demonstrations(
        suite="libero_goal",
        task_id=task_id,
        task=f"task {task_id}",
        images=np.full((3, 1, 4, 4, 3), task_id, np.uint8),
        proprio=np.full((3, 9), 10.0 * task_id) + np.arange(3)[:, None],
        actions=np.full((3, 5, 7), task_id, np.float32),
        num_attempts=3,
        num_successes=2,
        num_steps=50,
        episode_index=None if episodes is None else np.array(episodes),
    )


def _saved(folder: Path, *demos: Demonstrations) -> Path:
    for demo in demos:
        save_demonstrations(demo, folder)
    return folder


def test_tasks_follow_each_other_and_episodes_are_counted_on(tmp_path: Path):
    frames = open_frames(_saved(tmp_path, _demos(1), _demos(6)), ("agentview",))

    assert frames.tasks == ("task 1", "task 6")
    assert frames.task_index.tolist() == [0, 0, 0, 1, 1, 1]
    assert frames.episode_index.tolist() == [0, 0, 1, 2, 2, 3]
    chosen = np.array([5, 0])
    assert frames.proprio[chosen, 0].tolist() == [62.0, 10.0]
    assert frames.read_images(chosen)[:, 0, 0, 0, 0].tolist() == [6, 1]
    assert frames.read_chunks(chosen, 4).shape == (2, 4, 7)


def test_episodes_are_chosen_by_position(tmp_path: Path):
    frames = open_frames(_saved(tmp_path, _demos(1), _demos(6)), ("agentview",))

    def chosen(text: str) -> list[int]:
        return frames_of_episodes(frames, episode_slice(text, "--episodes"), "--episodes").tolist()

    assert chosen("0:1") == [0, 1]
    assert chosen("1:3") == [2, 3, 4]
    assert chosen("3:") == [5]
    assert chosen(":") == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match=r"--episodes 4: chooses no episode .* which has 4"):
        chosen("4:")


@pytest.mark.parametrize("text", ["1", "a:b", "-1:", "0:1:2", ""])
def test_what_is_no_slice_is_refused(text: str):
    with pytest.raises(ValueError, match=r"--episodes must be FIRST:END, e\.g\. 0:1"):
        episode_slice(text, "--episodes")


def test_files_that_do_not_say_where_episodes_begin_cannot_be_chosen_from(tmp_path: Path):
    frames = open_frames(_saved(tmp_path, _demos(1, None)), ("agentview",))

    assert len(frames_of_episodes(frames, slice(None), "--episodes")) == 3
    with pytest.raises(ValueError, match="--episodes chooses nothing"):
        frames_of_episodes(frames, slice(0, 1), "--episodes")


def test_what_does_not_fit_the_policy_is_refused(tmp_path: Path):
    folder = _saved(tmp_path, _demos(1))

    with pytest.raises(ValueError, match="images of 1 cameras, the policy needs 2"):
        open_frames(folder, ("agentview", "robot0_eye_in_hand"))
    with pytest.raises(ValueError, match=r"chunks of 5 actions, the policy's have 6.*--horizon 6"):
        require_horizon(open_frames(folder, ("agentview",)), 6)
    _saved(tmp_path, replace(_demos(6), actions=np.zeros((3, 6, 7), np.float32)))
    with pytest.raises(ValueError, match="action chunks of several shapes"):
        open_frames(folder, ("agentview",))


def test_images_of_other_cameras_or_in_another_order_are_refused(tmp_path: Path):
    names = ("agentview", "robot0_eye_in_hand")
    two = replace(_demos(1), images=np.zeros((3, 2, 4, 4, 3), np.uint8), cameras=names)
    folder = _saved(tmp_path, two)

    assert len(open_frames(folder, names)) == 3
    with pytest.raises(ValueError, match="has images of agentview, robot0_eye_in_hand") as refused:
        open_frames(folder, names[::-1])
    assert raises_one_line(
        refused.value,
        f"{folder / 'libero_goal_1.safetensors'} has images of",
        "the policy needs robot0_eye_in_hand, agentview, in this order",
        "ript demos --policy DIR",
    )


def test_recordings_of_libero_are_refused_with_what_to_do(tmp_path: Path):
    (tmp_path / "turn_on_the_stove_demo.hdf5").touch()

    with pytest.raises(ValueError, match=r"re-play them first: ript demos --from_hdf5"):
        open_frames(tmp_path, ("agentview",))


def test_orientations_come_back_unwrapped():
    """|angle| up to 2 pi, and none at all, where the axis is not known."""
    angles = np.linspace(0.01, 2 * np.pi - 0.01, 50)
    axis = np.array([2.0, -1.0, 2.0]) / 3
    states = np.zeros((51, 8))
    states[:50, 3:6] = angles[:, None] * axis
    states[:, :3], states[:, 6:] = 0.3, (0.04, -0.04)

    proprio = proprio_of_state(states)

    assert np.linalg.norm(proprio[:, 3:7], axis=-1) == pytest.approx(np.ones(51))
    assert raw_state(proprio, "axis_angle") == pytest.approx(states, abs=1e-9)
