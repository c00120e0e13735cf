"""Whole toy runs with a critic: what their checkpoints hold, and how they go on."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pi0.ript.config.sections import ValueConfig
from pi0.ript.interfaces import Ranks
from pi0.ript.report.jsonl import read_metrics
from pi0.ript.train.checkpoints.folder import load_training_state
from pi0.ript.train.regression_guard import roll_back
from tests.policy_parts import small_policy
from tests.ranks import run_ranks
from tests.train import toy_training
from tests.train.toy_training import changed, train, weights
from tests.train.toy_world import toy_trainer

NUM_STEPS = 3
CONFIG = changed(
    toy_training.CONFIG,
    algo={
        "demo_batch_size": 4, "lr": 1e-4, "critic": "value", "value": ValueConfig(warmup_batches=1),
    },
    num_train_steps=NUM_STEPS,
)  # fmt: skip
WITHOUT = changed(CONFIG, algo={"critic": "none", "value": ValueConfig()})


def critic_of(run_dir: Path, step: int) -> Mapping[str, Tensor]:
    return load_training_state(run_dir / "checkpoints" / str(step)).critic


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("critic") / "run"
    train(CONFIG, run_dir)
    return run_dir


def test_a_run_that_was_stopped_goes_on_with_the_same_bits(whole: Path, tmp_path: Path):
    train(changed(CONFIG, num_train_steps=2), tmp_path / "run")
    train(CONFIG, tmp_path / "run")

    assert same(critic_of(tmp_path / "run", 3), critic_of(whole, 3))
    assert same(weights(tmp_path / "run", NUM_STEPS), weights(whole, NUM_STEPS))
    assert not same(critic_of(whole, 2), critic_of(whole, 3))


def _train_on_a_rank(ranks: Ranks, run_dir: Path) -> None:
    train(CONFIG, run_dir, ranks=ranks)


def test_two_ranks_fit_the_head_of_one(whole: Path, tmp_path: Path):
    run_ranks(2, _train_on_a_rank, tmp_path / "run")

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
    train(WITHOUT, tmp_path / "run")

    folders = [run / "checkpoints/3/pretrained_model" for run in (whole, tmp_path / "run")]
    names, expected = ([p.name for p in sorted(folder.iterdir())] for folder in folders)
    assert names == expected
    assert weights(whole, NUM_STEPS).keys() == weights(tmp_path / "run", NUM_STEPS).keys()
    sizes, expected = ([p.stat().st_size for p in sorted(f.iterdir())] for f in folders)
    assert sizes == expected


def test_a_run_without_one_has_no_file_of_it(whole: Path, tmp_path: Path):
    train(changed(WITHOUT, num_train_steps=1), tmp_path / "run")

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
