"""A video shows what the policy observed, upright, in a file that is named after the episode."""

import os
import threading
from dataclasses import replace

import av
import numpy as np
import pytest

from pi0.ript.packed_frames import PackedFrames
from pi0.ript.report.video import (
    NICENESS,
    EpisodeVideos,
    VideoWriter,
    episode_frames,
    episode_video_name,
    read_video,
    write_episode_video,
    write_video,
)
from tests.report.episodes import make_episode


def test_frame_is_upright_with_cameras_side_by_side():
    frames = list(episode_frames(make_episode(num_policy_steps=2)))
    assert frames[1].shape == (6, 18, 3)
    # The image is bright at the bottom; LIBERO's images are upside-down, so the video is bright on top.
    assert frames[1][:, 0, 0].tolist() == [50, 50, 50, 0, 0, 0]


@pytest.mark.parametrize(("height", "width"), [(6, 9), (96, 96), (301, 255)])
def test_video_has_one_frame_per_policy_step(tmp_path, height, width):
    episode = make_episode(num_policy_steps=4, height=height, width=width)
    path = write_episode_video(tmp_path / "videos", episode)
    frames = read_video(path)
    assert len(frames) == 4
    assert min(frames.shape[1:3]) >= 256
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def recorded_steps(num_policy_steps=2):
    """An episode of two control steps per policy step; control step n shows n in every pixel."""
    steps = np.arange(2 * num_policy_steps, dtype=np.uint8).reshape(num_policy_steps, 2, 1, 1, 1, 1)
    images = np.broadcast_to(steps, (num_policy_steps, 2, 2, 6, 9, 3))
    frames = tuple(PackedFrames.pack(pair) for pair in images)
    return replace(make_episode(num_policy_steps=num_policy_steps), frames=frames)


def test_video_of_control_steps_shows_the_first_observation_and_every_step():
    first, *steps = episode_frames(recorded_steps())

    np.testing.assert_array_equal(first, next(episode_frames(make_episode())))
    assert [frame.shape for frame in steps] == [(6, 18, 3)] * 4
    assert [frame.max() for frame in steps] == [frame.min() for frame in steps] == [0, 1, 2, 3]


def test_frame_of_a_control_step_is_upright_too():
    observations = [policy_step.observation.images for policy_step in make_episode().policy_steps]
    frames = PackedFrames.pack(np.stack(observations[1:]))
    episode = replace(make_episode(), frames=(frames,))

    np.testing.assert_array_equal(
        np.stack(list(episode_frames(episode))), np.stack(list(episode_frames(make_episode())))
    )


def test_video_of_control_steps_runs_at_the_control_rate(tmp_path):
    path = write_episode_video(tmp_path, recorded_steps(num_policy_steps=10))

    # The first observation and 20 steps, 20 a second.
    assert len(read_video(path)) == 21
    with av.open(str(path)) as video:
        assert video.streams.video[0].average_rate == 20
        assert video.duration / av.time_base == pytest.approx(1.05)


def test_nothing_is_drawn_for_videos_that_a_limit_leaves_out(tmp_path):
    with make_writer(max_films=1) as writer:
        assert writer.rate("steps") == "steps"
        writer.write(tmp_path, make_episode())
        assert writer.rate("steps") == "decisions"


def test_name_has_task_state_seed_and_outcome():
    name = episode_video_name(make_episode(outcome="failure", task="Put it: ../on the stove!"))
    assert name == "libero_goal_7_put_it_on_the_stove_state33_seed5_failure.mp4"


def test_name_of_a_long_task_stays_short():
    assert len(episode_video_name(make_episode(task="very " * 100))) < 150


def test_episode_without_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no image for a video"):
        write_episode_video(tmp_path, make_episode(num_policy_steps=0))


def test_frames_of_two_sizes_make_no_video(tmp_path):
    frames = [np.zeros((300, 300, 3), np.uint8), np.zeros((300, 200, 3), np.uint8)]
    with pytest.raises(AssertionError, match="one shape"):
        write_video(tmp_path / "video.mp4", frames)
    assert list(tmp_path.iterdir()) == []


def make_writer(*, max_films=10, max_megabytes=10.0, earlier=()):
    return VideoWriter(max_films=max_films, max_megabytes=max_megabytes, earlier=earlier)


def videos_in(folder):
    return sorted(path.name for path in folder.rglob("*.mp4"))


def test_only_episodes_to_record_have_videos_and_all_are_passed_on(tmp_path):
    passed = []
    episodes = [make_episode(), make_episode(record_video=True)]
    with make_writer() as writer:
        video = EpisodeVideos(writer, tmp_path / "videos", passed.append)
        for episode in episodes:
            video(episode)
        assert passed == episodes
    assert videos_in(tmp_path / "videos") == [episode_video_name(episodes[1])]


def test_recorded_episode_that_crashed_before_its_first_image_is_passed_on(tmp_path):
    passed = []
    crashed = make_episode(outcome="crashed", num_policy_steps=0, record_video=True)
    with make_writer() as writer:
        EpisodeVideos(writer, tmp_path, passed.append)(crashed)
    assert len(passed) == 1
    assert videos_in(tmp_path) == []


def test_rollout_goes_on_while_the_encoder_is_busy(tmp_path):
    is_free = threading.Event()
    with make_writer() as writer:
        writer._thread.submit(is_free.wait, 60)
        writer.write(tmp_path, make_episode(record_video=True))
        assert videos_in(tmp_path) == []  # returned although nothing can be encoded
        is_free.set()
    assert len(videos_in(tmp_path)) == 1


def test_videos_past_the_number_are_left_out_and_counted(tmp_path, caplog):
    with caplog.at_level("INFO"), make_writer(max_films=2) as writer:
        for outcome in ("success", "failure", "success"):
            writer.write(tmp_path / outcome, make_episode(outcome=outcome))
    assert len(videos_in(tmp_path)) == 2
    assert "1 videos left out" in caplog.text


def test_no_video_follows_one_that_used_up_the_megabytes(tmp_path):
    with make_writer(max_megabytes=1e-6) as writer:
        for n in range(3):
            writer.write(tmp_path / str(n), make_episode())
    assert len(videos_in(tmp_path)) == 1


def test_videos_from_before_a_resume_count(tmp_path):
    with make_writer() as writer:
        writer.write(tmp_path, make_episode(outcome="failure"))
    earlier = list(tmp_path.glob("*.mp4"))
    with make_writer(max_films=1, earlier=earlier) as writer:
        writer.write(tmp_path, make_episode(outcome="success"))
    assert len(videos_in(tmp_path)) == 1


def test_video_that_cannot_be_written_is_an_error_at_the_end(tmp_path):
    (tmp_path / "file").write_text("in the way")
    writer = make_writer()
    writer.write(tmp_path / "file", make_episode())
    with pytest.raises(FileExistsError):
        writer.close()


def test_encoder_yields_to_simulators(tmp_path):
    with make_writer() as writer:
        niceness = writer._thread.submit(
            lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        ).result()
        ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness == max(ours, NICENESS)
