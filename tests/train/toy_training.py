"""Whole runs of the toy in this process: their settings, and what of them can be compared."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from pi0.policy import Pi0Policy
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
from pi0.ript.train import trainer as trainer_module
from tests.policy_parts import small_policy
from tests.train.toy_world import toy_trainer

MACHINE_DEPENDENT = ("time/", "speed/", "memory/")
NUM_STEPS = 4
# Every step learns, and every checkpoint stays.
CONFIG = TrainConfig(
    task=TaskConfig(task_name="turn_on_the_stove", max_episode_length=12),
    policy=PolicyConfig(device="cpu", denoise_steps=3),
    algo=AlgoConfig(
        rloo_batch_size=4, demo_batch_size=2, num_epochs=1, num_minibatches=2, warmup_steps=0, lr=1e-3,
        kl_stop=None,
    ),
    training=TrainingConfig(num_train_steps=NUM_STEPS, save_freq=1, keep_checkpoints=9),
    evaluation=EvaluationConfig(rollouts_per_task=0),
    logging=LoggingConfig(tensorboard=False),
)  # fmt: skip
# One group of two rollouts in each of two steps.
ONE_GROUP = TrainConfig(
    task=TaskConfig(task_name="turn_on_the_stove", max_episode_length=12),
    algo=AlgoConfig(rloo_batch_size=2, demo_batch_size=1, num_epochs=1, num_minibatches=1),
    training=TrainingConfig(num_train_steps=2, save_freq=1),
    evaluation=EvaluationConfig(rollouts_per_task=1, save_videos=0),
    logging=LoggingConfig(tensorboard=False),
)


def changed(
    config: TrainConfig, *, algo: Mapping[str, Any] | None = None, **training: Any
) -> TrainConfig:
    """Return the settings with other ones in the sections ``algo`` and ``training``."""
    return replace(
        config,
        algo=replace(config.algo, **(algo or {})),
        training=replace(config.training, **training),
    )


def train(
    config: TrainConfig,
    run_dir: Path,
    *,
    policy: Pi0Policy | None = None,
    ranks: Ranks = SINGLE_PROCESS,
) -> Pi0Policy:
    """Train from wherever the run stands to its last step; return the policy.

    A new run begins with ``policy``, by default a small pi0.
    """
    resumes = (run_dir / "checkpoints").is_dir()
    policy = policy or small_policy()
    with toy_trainer(config, policy, run_dir, resumes=resumes, ranks=ranks) as (trainer, _):
        trainer.checkpoints.save_beginning()
        trainer.train()
        return trainer.parts.policy


def repeatable_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Return the metrics of every step that do not depend on the machine."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if not key.startswith(MACHINE_DEPENDENT)}
        for line in lines
    ]


def tensors(run_dir: Path, step: int, file: str) -> dict[str, Tensor]:
    """Return what a file of a checkpoint holds, e.g. ``training_state/optimizer``."""
    return load_file(run_dir / "checkpoints" / str(step) / f"{file}.safetensors")


def weights(run_dir: Path, step: int) -> dict[str, Tensor]:
    """Return the policy of a checkpoint."""
    return tensors(run_dir, step, "pretrained_model/model")


class Killer:
    """An update that interrupts the program instead, once some have been done; put it in the trainer's module."""

    def __init__(self, after: int) -> None:
        self._left = after
        self._update = trainer_module.update

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1
        return self._update(*arguments, **named)
