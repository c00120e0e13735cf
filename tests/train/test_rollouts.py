"""Episodes of a run and the memory that is watched meanwhile."""

from dataclasses import replace
from pathlib import Path
from threading import current_thread

import pytest

from pi0.ript.config.schema import (
    AlgoConfig,
    EvaluationConfig,
    FeaturesConfig,
    LoggingConfig,
    TaskConfig,
    TrainConfig,
    TrainingConfig,
    VideoConfig,
)
from pi0.ript.env.rollout.stats import RolloutStats
from pi0.ript.interfaces import Reply
from pi0.ript.train.memory_watch import GB, MemoryWatch
from pi0.ript.train.rollouts import announce_practice, predicted, video_cost
from tests.env.toys import ToyPolicy, toy_request
from tests.policy_parts import small_policy
from tests.train.toy_run import ToyRunner
from tests.train.toy_world import toy_trainer

RECORDED = toy_request(0, max_steps=300, record_video=True, video_rate="steps")


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
    requests = [RECORDED, RECORDED, replace(RECORDED, record_video=False)]
    there = runner()
    there.stats.num_observations, there.stats.worker_seconds = 2, {"render_s": 0.2}

    with caplog.at_level("INFO"), video_cost(requests, there):
        assert told(caplog)[0].endswith("up to about 60 s of simulator time (100 ms each)")
        there.stats.num_video_frames, there.stats.worker_seconds = 421, {"video_s": 43.21}

    assert told(caplog)[1:] == [
        "films: 421 pictures of control steps took 43.2 s of simulator time"
    ]


@pytest.mark.parametrize("changes", [{"record_video": False}, {"video_rate": "decisions"}])
def test_films_that_cost_nothing_are_not_mentioned(caplog, changes):
    with caplog.at_level("INFO"), video_cost([replace(RECORDED, **changes)], runner()):
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
    assert stats.seconds_per_image is None
    for seconds in (0.1, 0.3):
        observation = {"physics_s": 1.0, "render_s": seconds}
        stats.add_reply(
            Reply(slot=0, observation=None, is_success=False, num_steps=5, timings=observation), 0
        )
    assert stats.seconds_per_image == pytest.approx(0.2)

    stats.worker_seconds["video_s"], stats.num_video_frames = 4.0, 10
    assert stats.seconds_per_image == pytest.approx(0.4)


def config_short_of_memory(*, overlap: bool) -> TrainConfig:
    """Leave 0.75 GB: below 1 GB, where scenes are dropped, and above 0.5 GB, where a run ends."""
    trainer = MemoryWatch("auto", lambda: (), lambda: None).use().trainer
    return TrainConfig(
        task=TaskConfig(task_name="turn_on_the_stove", max_episode_length=12),
        algo=AlgoConfig(rloo_batch_size=4, demo_batch_size=1, num_epochs=1, num_minibatches=1),
        training=TrainingConfig(
            num_train_steps=2, overlap=overlap, memory_limit_gb=trainer / GB + 0.75
        ),
        evaluation=EvaluationConfig(rollouts_per_task=0),
        features=FeaturesConfig(use_ript_vla_runner=True),
        logging=LoggingConfig(tensorboard=False),
    )


@pytest.mark.parametrize("overlap", [False, True])
def test_scenes_are_dropped_by_the_thread_that_commands_the_simulators(
    tmp_path: Path, overlap: bool
):
    requesting: set[str] = set()
    dropping: set[str] = set()
    with toy_trainer(config_short_of_memory(overlap=overlap), small_policy(), tmp_path) as (
        trainer,
        pool,
    ):
        wait = pool.wait

        def waiting():
            requesting.add(current_thread().name)
            return wait()

        pool.wait = waiting
        pool.drop_scenes = lambda: dropping.add(current_thread().name)
        trainer.train(lambda: None)

    assert len(dropping) == 1
    assert dropping == requesting
