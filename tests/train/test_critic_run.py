"""Whole toy runs with a critic: what their checkpoints hold, and how they go on."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pi0.ript.config.algo_sections import ValueConfig
from pi0.ript.config.schema import (
    AlgoConfig,
    EvaluationConfig,
    LoggingConfig,
    PolicyConfig,
    TaskConfig,
    TrainConfig,
    TrainingConfig,
)
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.interfaces import Ranks
from pi0.ript.report.jsonl import read_metrics
from pi0.ript.train.checkpoints.folder import load_training_state
from pi0.ript.train.regression_guard import roll_back
from tests.policy_parts import small_policy
from tests.ranks import run_ranks
from tests.train.toy_world import toy_trainer

NUM_STEPS = 3
CONFIG = TrainConfig(
    task=TaskConfig(task_name="turn_on_the_stove", max_episode_length=12),
    policy=PolicyConfig(device="cpu", denoise_steps=3),
    algo=AlgoConfig(
        rloo_batch_size=4, demo_batch_size=4, num_epochs=1, num_minibatches=2, warmup_steps=0,
        lr=1e-4, kl_stop=None, critic="value", value=ValueConfig(warmup_batches=1),
    ),
    training=TrainingConfig(num_train_steps=NUM_STEPS, save_freq=1, keep_checkpoints=9),
    evaluation=EvaluationConfig(rollouts_per_task=0),
    logging=LoggingConfig(tensorboard=False),
)  # fmt: skip
WITHOUT = replace(CONFIG, algo=replace(CONFIG.algo, critic="none", value=ValueConfig()))


def train(ranks: Ranks, run_dir: Path, config: TrainConfig, num_steps: int = NUM_STEPS) -> None:
    """Train until ``num_steps`` from wherever the run stands."""
    config = replace(config, training=replace(config.training, num_train_steps=num_steps))
    resumes = (run_dir / "checkpoints").is_dir()
    with toy_trainer(config, small_policy(), run_dir, resumes=resumes, ranks=ranks) as (trainer, _):
        trainer.checkpoints.save_beginning()
        trainer.train()


def critic_of(run_dir: Path, step: int) -> Mapping[str, Tensor]:
    return load_training_state(run_dir / "checkpoints" / str(step)).critic


def policy_of(run_dir: Path, step: int = NUM_STEPS) -> dict[str, Tensor]:
    return load_file(run_dir / f"checkpoints/{step}/pretrained_model/model.safetensors")


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("critic") / "run"
    train(SINGLE_PROCESS, run_dir, CONFIG)
    return run_dir


def test_a_run_that_was_stopped_goes_on_with_the_same_bits(whole: Path, tmp_path: Path):
    train(SINGLE_PROCESS, tmp_path / "run", CONFIG, num_steps=2)
    train(SINGLE_PROCESS, tmp_path / "run", CONFIG)

    assert same(critic_of(tmp_path / "run", 3), critic_of(whole, 3))
    assert same(policy_of(tmp_path / "run"), policy_of(whole))
    assert not same(critic_of(whole, 2), critic_of(whole, 3))


def test_two_ranks_fit_the_head_of_one(whole: Path, tmp_path: Path):
    run_ranks(2, train, tmp_path / "run", CONFIG)

    # Of one batch: features of minibatches of other sizes differ by rounding, which AdamW can make as large as its
    # learning rate of 3e-4 where a gradient is 0 but for rounding.
    found, expected = critic_of(tmp_path / "run", 1), critic_of(whole, 1)
    assert found.keys() == expected.keys()
    distances = {name: float((found[name] - expected[name]).abs().mean()) for name in found}
    assert max(distances.values()) < 1e-5, distances


def test_what_it_made_of_a_batch_is_logged(whole: Path):
    first, second, _ = read_metrics(whole / "metrics.jsonl")

    assert first["value/mean"] == first["value/explained_variance"] == first["value/shift"] == 0.0
    assert second["value/shift"] > 0
    assert second["value/loss"] > 0


def test_the_exported_policy_knows_nothing_of_it(whole: Path, tmp_path: Path):
    train(SINGLE_PROCESS, tmp_path / "run", WITHOUT)

    folders = [run / "checkpoints/3/pretrained_model" for run in (whole, tmp_path / "run")]
    names, expected = ([p.name for p in sorted(folder.iterdir())] for folder in folders)
    assert names == expected
    assert policy_of(whole).keys() == policy_of(tmp_path / "run").keys()
    sizes, expected = ([p.stat().st_size for p in sorted(f.iterdir())] for f in folders)
    assert sizes == expected


def test_a_run_without_one_has_no_file_of_it(whole: Path, tmp_path: Path):
    train(SINGLE_PROCESS, tmp_path / "run", WITHOUT, num_steps=1)

    state = "checkpoints/1/training_state"
    assert not (tmp_path / "run" / state / "critic.safetensors").exists()
    assert (whole / state / "critic.safetensors").is_file()
    assert critic_of(tmp_path / "run", 1) == {}


def test_a_checkpoint_that_lost_it_is_damaged(whole: Path, tmp_path: Path):
    checkpoint = tmp_path / "3"
    shutil.copytree(whole / "checkpoints/3", checkpoint)
    (checkpoint / "training_state/critic.safetensors").unlink()

    with pytest.raises(ValueError, match=r"critic\.safetensors is missing"):
        load_training_state(checkpoint)


def test_the_regression_guard_puts_it_back_too(tmp_path: Path):
    run_dir = tmp_path / "run"
    with toy_trainer(CONFIG, small_policy(), run_dir) as (trainer, _):
        trainer.checkpoints.save_beginning()
        trainer.train()
        parts = trainer.parts
        roll_back(
            run_dir / "checkpoints/1", parts.policy, parts.engine, parts.objective, parts.critic
        )
        assert parts.critic is not None
        assert same(parts.critic.state(), critic_of(run_dir, 1))
