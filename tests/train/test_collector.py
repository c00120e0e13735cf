"""Collecting: what is logged of its cost, and the memory that is watched meanwhile."""

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
from pi0.ript.train.memory_watch import GB, MemoryWatch
from tests.policy_parts import small_policy
from tests.train.toy_world import toy_trainer


@pytest.mark.parametrize(
    ("video", "expected"),
    [
        (VideoConfig(save=True, rate="steps"), ["videos of every step: up to 280 images"]),
        (VideoConfig(save=True), []),
        (VideoConfig(rate="steps"), []),
    ],
)
def test_the_cost_of_videos_is_logged_where_there_is_one(caplog, tmp_path, video, expected):
    # One group of four rollouts of up to 70 steps.
    config = TrainConfig(
        video=video,
        task=TaskConfig(task_name="turn_on_the_stove", max_episode_length=70),
        algo=AlgoConfig(rloo_batch_size=4),
        logging=LoggingConfig(tensorboard=False),
    )
    with toy_trainer(config, small_policy(), tmp_path) as (trainer, _), caplog.at_level("INFO"):
        caplog.clear()
        trainer.parts.collector.announce_videos()
        lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(" of control")[0] for line in lines] == expected


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
def test_scenes_are_dropped_by_the_thread_that_sends_to_the_simulators(
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
        trainer.train()

    assert len(dropping) == 1
    assert dropping == requesting
