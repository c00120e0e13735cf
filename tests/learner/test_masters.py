"""Training in bfloat16: what trains is float32, whatever the precision of the products."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pi0.checkpoint import load_policy, save_policy
from pi0.policy import Pi0Policy
from pi0.ript.algo.flow_sde import FlowSde
from pi0.ript.build_learner import build_engine
from pi0.ript.build_policy import build_policy
from pi0.ript.config.policy import PolicyOverrides
from pi0.ript.config.schema import AlgoConfig, PolicyConfig, TrainConfig, TrainingConfig
from pi0.ript.config.sections import OptimizerConfig
from pi0.ript.learner.update import update
from tests.learner.samples import SAMPLING, draw_batch, weights_of
from tests.policy_parts import TASKS, make_observations, small_policy

LR = 1e-6
CONFIG = TrainConfig(
    policy=PolicyConfig(
        device="cpu", train_expert_only=False, overrides=PolicyOverrides(dtype="bfloat16")
    ),
    algo=AlgoConfig(
        num_epochs=1, num_minibatches=2, micro_batch_size=4, lr=LR, warmup_steps=0, kl_stop=None
    ),
    training=TrainingConfig(optimizer=OptimizerConfig(weight_decay=0.0)),
)
BACKBONE = "core.model.vlm.language_model.layers.0.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that is bfloat16 throughout, as openpi publishes them."""
    folder = tmp_path_factory.mktemp("half")
    save_policy(small_policy(), folder, dtype=torch.bfloat16)
    return folder


def loaded(folder: Path, *, expert_only: bool) -> Pi0Policy:
    policy = replace(CONFIG.policy, train_expert_only=expert_only)
    return build_policy(replace(CONFIG, policy_path=str(folder), policy=policy))


def test_masters_change_no_action_chunk(folder: Path):
    stored_in_half, masters = (loaded(folder, expert_only=flag) for flag in (True, False))

    assert np.array_equal(act(masters), act(stored_in_half))


def test_only_trained_weights_are_masters(folder: Path):
    dtypes = [
        weights_of(loaded(folder, expert_only=flag))[BACKBONE].dtype for flag in (True, False)
    ]

    assert dtypes == [torch.bfloat16, torch.float32]
    assert loaded(folder, expert_only=False).network.compute_dtype == torch.bfloat16


def test_steps_of_a_millionth_add_up(folder: Path):
    policy = loaded(folder, expert_only=False)
    before = weights_of(policy)

    moved = train(policy, num_updates=2)

    # Four AdamW steps move a number by about LR each, in one direction where the gradient keeps its sign.
    change = (moved[BACKBONE] - before[BACKBONE]).abs()
    assert float(change.median()) > LR
    assert float(change.max()) < 5 * LR
    rounded = moved[BACKBONE].bfloat16() == before[BACKBONE].bfloat16()
    assert float(rounded.float().mean()) > 0.95, "bfloat16 would have kept such steps"


def test_what_is_saved_are_the_masters(folder: Path, tmp_path: Path):
    policy = loaded(folder, expert_only=False)
    moved = train(policy, num_updates=1)
    save_policy(policy, tmp_path)

    again = weights_of(load_policy(tmp_path, keeps_masters=True))

    assert all(torch.equal(again[name], moved[name]) for name in moved)


def test_the_trained_policy_acts_alike_in_rollouts_and_evaluation(folder: Path, tmp_path: Path):
    policy = loaded(folder, expert_only=False)
    train(policy, num_updates=2)
    save_policy(policy, tmp_path)

    assert np.array_equal(act(load_policy(tmp_path)), act(policy))


def act(policy: Pi0Policy) -> NDArray[np.float32]:
    return np.stack(
        [chunk.chain for chunk in policy.act(make_observations(4), TASKS, range(4), SAMPLING)]
    )


def train(policy: Pi0Policy, num_updates: int) -> dict[str, torch.Tensor]:
    engine = build_engine(CONFIG, policy)
    for number in range(num_updates):
        batch = draw_batch(policy, 11, seed=number)
        update(
            policy, engine, batch, FlowSde(CONFIG.algo), CONFIG.algo, SAMPLING, number,
            has_frozen_prefix=False,
        )  # fmt: skip
    return weights_of(policy)
