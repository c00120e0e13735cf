"""What videos cost is logged before and after."""

from dataclasses import replace

import pytest

from pi0.ript.env.rollout.stats import RolloutStats
from pi0.ript.evaluation.video_cost import predicted_cost, video_cost
from pi0.ript.interfaces import Reply
from tests.env.toys import ToyPolicy, toy_request
from tests.train.toy_run import ToyRunner

RECORDED = toy_request(0, max_steps=300, record_video=True, video_rate="steps")


def logged(caplog):
    return [record.getMessage() for record in caplog.records]


def runner():
    """A runner that has drawn nothing yet."""
    return ToyRunner(ToyPolicy(), "libero_goal")


def test_before_anything_was_drawn_the_cost_is_a_number_of_images():
    text = predicted_cost([300, 300, 520], None)
    assert text == (
        "up to 1,120 images of control steps (3 episodes); "
        "what an image takes is known after the first observation"
    )


def test_measured_images_give_seconds():
    # 600 images of 50 ms each.
    text = predicted_cost([300, 300], 0.05)
    assert text.endswith("(2 episodes), up to about 30 s of simulator time (50 ms each)")


def test_the_cost_of_an_evaluation_is_logged_before_and_after(caplog):
    requests = [RECORDED, RECORDED, replace(RECORDED, record_video=False)]
    there = runner()
    there.stats.num_observations, there.stats.worker_seconds = 2, {"render_s": 0.2}

    with caplog.at_level("INFO"), video_cost(requests, there):
        assert logged(caplog)[0].endswith("up to about 60 s of simulator time (100 ms each)")
        there.stats.num_video_frames, there.stats.worker_seconds = 421, {"video_s": 43.21}

    assert logged(caplog)[1:] == [
        "videos: 421 images of control steps took 43.2 s of simulator time"
    ]


@pytest.mark.parametrize("changes", [{"record_video": False}, {"video_rate": "decisions"}])
def test_videos_that_cost_nothing_are_not_mentioned(caplog, changes):
    with caplog.at_level("INFO"), video_cost([replace(RECORDED, **changes)], runner()):
        pass
    assert logged(caplog) == []


def test_an_observation_gives_the_seconds_of_an_image_until_a_video_does():
    stats = RolloutStats()
    assert stats.seconds_per_image is None
    for seconds in (0.1, 0.3):
        observation = {"physics_s": 1.0, "render_s": seconds}
        stats.add_reply(
            Reply(slot=0, observation=None, is_success=False, num_steps=5, timings=observation), 0
        )
    assert stats.seconds_per_image == pytest.approx(0.2)

    stats.worker_seconds["video_s"], stats.num_video_frames = 4.0, 10
    assert stats.seconds_per_image == pytest.approx(0.4)
