"""A film shows what the policy saw, upright, in a file whose name says which episode it is."""

import imageio_ffmpeg
import numpy as np
import pytest

from pi0.ript.report.video import Film, episode_frames, video_name, write_episode_video, write_video
from tests.report.episodes import make_episode


def test_frame_is_upright_with_cameras_side_by_side():
    frames = episode_frames(make_episode(num_decisions=2))
    assert frames[1].shape == (6, 18, 3)
    # The record is bright at the bottom; LIBERO's pictures are upside-down, so the film is bright on top.
    assert frames[1][:, 0, 0].tolist() == [50, 50, 50, 0, 0, 0]


@pytest.mark.parametrize(("height", "width"), [(6, 9), (96, 96), (301, 255)])
def test_film_has_one_frame_per_decision(tmp_path, height, width):
    episode = make_episode(num_decisions=4, height=height, width=width)
    path = write_episode_video(tmp_path / "videos", episode)
    assert imageio_ffmpeg.count_frames_and_secs(str(path))[0] == 4
    reader = imageio_ffmpeg.read_frames(str(path))
    assert min(next(reader)["source_size"]) >= 256
    reader.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_name_says_task_state_seed_and_outcome():
    name = video_name(make_episode(outcome="failure", task="Put it: ../on the stove!"))
    assert name == "libero_goal_7_put_it_on_the_stove_state33_seed5_failure.mp4"


def test_name_of_a_long_task_stays_short():
    assert len(video_name(make_episode(task="very " * 100))) < 150


def test_episode_without_pictures_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing to film"):
        write_episode_video(tmp_path, make_episode(num_decisions=0))


def test_frames_of_two_sizes_make_no_film(tmp_path):
    frames = [np.zeros((300, 300, 3), np.uint8), np.zeros((300, 200, 3), np.uint8)]
    with pytest.raises(AssertionError, match="one shape"):
        write_video(tmp_path / "film.mp4", frames)
    assert list(tmp_path.iterdir()) == []


def test_only_episodes_asked_for_are_filmed_and_all_are_passed_on(tmp_path):
    seen = []
    film = Film(tmp_path / "videos", seen.append)
    episodes = [make_episode(), make_episode(is_filmed=True)]
    for episode in episodes:
        film(episode)
    assert seen == episodes
    assert [path.name for path in (tmp_path / "videos").iterdir()] == [video_name(episodes[1])]


def test_filmed_episode_that_crashed_before_its_first_picture_is_passed_on(tmp_path):
    seen = []
    Film(tmp_path, seen.append)(make_episode(outcome="crashed", num_decisions=0, is_filmed=True))
    assert len(seen) == 1
