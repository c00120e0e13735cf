"""Whole toy runs whose success falls after the first step, and what the guard does about it."""

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pi0.ript.config.load import RUN_CONFIG_NAME, save_config
from pi0.ript.config.safety import RegressionGuardConfig
from pi0.ript.config.schema import (
    AlgoConfig,
    EvaluationConfig,
    LoggingConfig,
    TaskConfig,
    TrainConfig,
    TrainingConfig,
)
from pi0.ript.report.jsonl import read_metrics
from pi0.ript.scripts.exits import is_user_error
from pi0.ript.train.checkpoint import find_last
from pi0.ript.train.regression_guard import RegressionError
from pi0.ript.train.run import train_run
from tests.policy_parts import raises_one_line, small_policy
from tests.train.rows import are_equal, weights_of
from tests.train.toy_world import toy_trainer

GUARD = RegressionGuardConfig(drop=0.25, patience=1)
CONFIG = TrainConfig(
    task=TaskConfig(task_name="turn_on_the_stove", max_episode_length=12),
    algo=AlgoConfig(
        rloo_batch_size=4, demo_batch_size=1, num_epochs=1, num_minibatches=1, lr=1e-3,
        warmup_steps=0,
    ),
    training=TrainingConfig(num_train_steps=2, save_freq=1, regression_guard=GUARD),
    evaluation=EvaluationConfig(rollouts_per_task=4, every=1, save_videos=0),
    logging=LoggingConfig(tensorboard=False),
)  # fmt: skip


def weights_in(run_dir: Path, step: int):
    return load_file(run_dir / f"checkpoints/{step}/pretrained_model/model.safetensors")


def run_that_gets_worse(run_dir: Path, guard: RegressionGuardConfig):
    """Let two slots of four succeed until the first step is done, and none from then on."""
    training = replace(CONFIG.training, regression_guard=guard)
    config = replace(CONFIG, training=training)
    save_config(config, run_dir / RUN_CONFIG_NAME)
    policy = small_policy()
    with toy_trainer(config, policy, run_dir) as (trainer, pool):
        pool.succeeds = lambda slot: slot % 2 == 0 and not read_metrics(run_dir / "metrics.jsonl")
        train_run(trainer, run_dir)
    return policy


def test_it_stops_the_run_with_the_figures_and_keeps_the_best_checkpoint(tmp_path: Path):
    with pytest.raises(RegressionError) as caught:
        run_that_gets_worse(tmp_path, GUARD)

    assert raises_one_line(
        caught.value, "held_out success fell from 50.0% after step 0 to 0.0% after step 1"
    )
    assert is_user_error(caught.value)
    assert find_last(tmp_path).name == "1"
    assert not are_equal(weights_in(tmp_path, 0), weights_in(tmp_path, 1))


def test_it_goes_on_with_the_weights_of_the_best_checkpoint(tmp_path: Path):
    best = weights_of(small_policy())

    policy = run_that_gets_worse(tmp_path, replace(GUARD, action="roll_back"))

    first, second = read_metrics(tmp_path / "metrics.jsonl")
    assert first["update/num_optimizer_steps"] == 1, "the weights had moved before they went back"
    assert second["update/num_optimizer_steps"] == 0, "nothing succeeded, so nothing was learned"
    assert are_equal(weights_of(policy), best)
    assert are_equal(weights_in(tmp_path, 0), weights_in(tmp_path, 1))
    assert find_last(tmp_path).name == "2"
