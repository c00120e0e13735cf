"""What films of every control step cost is said in words that agree with what is drawn."""

from dataclasses import replace

import pytest

from pi0.ript.config.schema import AlgoConfig, TaskConfig, TrainConfig, VideoConfig
from pi0.ript.env.rollout.stats import RolloutStats
from pi0.ript.interfaces import Reply
from pi0.ript.train.film_cost import announce_practice, film_cost, predicted
from tests.env.toys import ToyPolicy, toy_request
from tests.train.toy_run import ToyRunner

FILMED = toy_request(0, max_steps=300, is_filmed=True, film_rate="steps")


def told(caplog):
    return [record.getMessage() for record in caplog.records]


def runner():
    """A runner that has drawn nothing yet."""
    return ToyRunner(ToyPolicy(), "libero_goal")


def test_before_anything_was_drawn_the_cost_is_told_in_pictures():
    text = predicted([300, 300, 520], None)
    assert text == (
        "up to 1,120 pictures of control steps (3 episodes); "
        "what a picture takes is known after the first look"
    )


def test_measured_pictures_are_told_in_seconds():
    # 600 pictures of 50 ms each.
    text = predicted([300, 300], 0.05)
    assert text.endswith("(2 episodes), up to about 30 s of simulator time (50 ms each)")


def test_the_cost_of_an_evaluation_is_told_before_and_after(caplog):
    requests = [FILMED, FILMED, replace(FILMED, is_filmed=False)]
    there = runner()
    there.stats.num_looks, there.stats.worker_seconds = 2, {"render_s": 0.2}

    with caplog.at_level("INFO"), film_cost(requests, there):
        assert told(caplog)[0].endswith("up to about 60 s of simulator time (100 ms each)")
        there.stats.num_film_pictures, there.stats.worker_seconds = 421, {"film_s": 43.21}

    assert told(caplog)[1:] == [
        "films: 421 pictures of control steps took 43.2 s of simulator time"
    ]


@pytest.mark.parametrize("changes", [{"is_filmed": False}, {"film_rate": "decisions"}])
def test_films_that_cost_nothing_are_not_mentioned(caplog, changes):
    with caplog.at_level("INFO"), film_cost([replace(FILMED, **changes)], runner()):
        pass
    assert told(caplog) == []


@pytest.mark.parametrize(
    ("video", "expected"),
    [
        (VideoConfig(save=True, rate="steps"), ["films of every step: up to 280 pictures"]),
        (VideoConfig(save=True), []),
        (VideoConfig(rate="steps"), []),
    ],
)
def test_the_cost_of_practice_is_told_where_there_is_one(caplog, video, expected):
    # One group of four rollouts of up to 70 steps.
    config = TrainConfig(
        video=video, task=TaskConfig(max_episode_length=70), algo=AlgoConfig(rloo_batch_size=4)
    )
    with caplog.at_level("INFO"):
        announce_practice(config, [("libero_goal", 7)], runner())
    assert [line.partition(" of control")[0] for line in told(caplog)] == expected


def test_a_look_tells_what_a_picture_takes_until_a_film_does():
    stats = RolloutStats()
    assert stats.seconds_per_picture is None
    for seconds in (0.1, 0.3):
        look = {"physics_s": 1.0, "render_s": seconds}
        stats.add_reply(
            Reply(slot=0, observation=None, is_success=False, num_steps=5, timings=look), 0
        )
    assert stats.seconds_per_picture == pytest.approx(0.2)

    stats.worker_seconds["film_s"], stats.num_film_pictures = 4.0, 10
    assert stats.seconds_per_picture == pytest.approx(0.4)
