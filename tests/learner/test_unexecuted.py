"""The end of an episode cuts its last action chunk short: what was never executed teaches nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pi0.ript.algo.objective import Targets
from pi0.ript.algo.transitions import log_ratio
from pi0.ript.build_learner import build_objective
from pi0.ript.config.schema import AlgoConfig
from pi0.ript.learner.scorer import Scorer
from pi0.ript.types import Batch
from tests.learner.samples import SAMPLING, draw_batch
from tests.policy_parts import small_policy

SAMPLES = np.arange(4)
EXECUTED = np.array([4, 2, 1, 4])  # of h = 4
IMITATORS = ["nft", "cfg", "bc"]


def losses(batch: Batch, algo: AlgoConfig) -> tuple[Tensor, Tensor]:
    """Return the losses of all samples and their gradient with respect to the trained weights."""
    policy = small_policy()
    parameters = policy.trainable_parameters(expert_only=True)
    if algo.objective == "cfg":
        parameters.append(policy.network.add_unconditional())
    scorer = Scorer(policy, batch, SAMPLES, SAMPLING, is_frozen=True)
    objective = build_objective(algo)
    weights = torch.from_numpy(batch.weights)
    objective.begin(scorer, Targets.of(batch, SAMPLES, weights, SAMPLES), [SAMPLES], seed=0)
    loss = objective.terms(SAMPLES, epoch=0).loss
    gradients = torch.autograd.grad(loss.sum(), parameters, allow_unused=True)
    return loss.detach(), torch.cat([g.flatten() for g in gradients if g is not None])


def drawn() -> Batch:
    batch = draw_batch(small_policy(), len(SAMPLES))
    return replace(batch, num_executed=EXECUTED, is_success=np.ones(4, np.bool_))


def disturbed(batch: Batch, step: int) -> Batch:
    """Return the batch with other values after a denoise step, where actions were not executed."""
    chains = batch.chains.copy()
    chains[1, step + 1, 2:4, :7] += 0.1
    chains[2, step + 1, 1:4, :7] += 0.1
    return replace(batch, chains=chains)


@pytest.mark.parametrize("masks", [True, False])
def test_what_the_last_denoise_step_drew_for_them_is_not_scored(masks: bool):
    algo, batch = AlgoConfig(mask_unexecuted=masks), drawn()

    _, expected = losses(batch, algo)
    _, found = losses(disturbed(batch, step=3), algo)

    assert torch.equal(found, expected) == masks


def test_what_earlier_denoise_steps_drew_for_them_is_scored():
    # What is executed attends to it, so it has its part in how the episode went.
    algo, batch = AlgoConfig(), drawn()
    assert not torch.equal(losses(disturbed(batch, step=1), algo)[1], losses(batch, algo)[1])


def test_a_masked_log_ratio_is_that_of_the_actions_that_count():
    mean, old, x_next = torch.randn(3, 2, 4, 4, 7, generator=torch.Generator().manual_seed(0))
    std = torch.tensor([0.5, 0.4, 0.3, 0.2])
    counts = torch.ones(2, 4, 4, dtype=torch.bool)
    counts[:, -1, 3] = False

    found = log_ratio(mean, old, x_next, std, counts)

    assert torch.equal(found[:, :3], log_ratio(mean, old, x_next, std)[:, :3])
    shorter = log_ratio(mean[:, :, :3], old[:, :, :3], x_next[:, :, :3], std)
    torch.testing.assert_close(found[:, 3], shorter[:, 3])


@pytest.mark.parametrize("objective", IMITATORS)
def test_nothing_is_imitated_that_was_not_executed(objective: str):
    algo, batch = AlgoConfig(objective=objective), drawn()
    whole, _ = losses(replace(batch, num_executed=np.full(4, 4)), algo)
    parts = [losses(replace(batch, num_executed=np.full(4, n)), algo)[0] for n in (1, 2, 3)]

    # A squared error is a sum over actions, each of which weighs as much as in a whole chunk.
    sizes = torch.stack([*parts, whole])
    assert bool((sizes[1:] > sizes[:-1]).all())
    mixed, _ = losses(batch, algo)
    torch.testing.assert_close(mixed, torch.stack([whole[0], parts[1][1], parts[0][2], whole[3]]))
