"""Scoring at unchanged weights: exactly ratio 1 in the same call, close to it in any other."""

import numpy as np
import pytest
import torch

from pi0.ript.algo.flow_sde import log_ratio
from tests.policy_parts import TASKS, looks, small_policy
from tests.train.rows import SAMPLING

ROWS = 32


@torch.no_grad()
def means_in_pieces(policy, chains, size):
    """Score as an update does: prefixes are read once, rows come in micro-batches of any size."""
    inputs = policy.encode(looks(ROWS), [TASKS[row % 4] for row in range(ROWS)])
    prefix = policy.prefix(inputs)
    pieces = [slice(start, start + size) for start in range(0, ROWS, size)]
    return torch.cat(
        [
            policy.transition_means(prefix.rows(rows), inputs.rows(rows), chains[rows], SAMPLING)
            for rows in pieces
        ]
    )


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-4), (torch.bfloat16, 0.02)], ids=["fp32", "bf16"]
)
def test_other_micro_batches_hardly_change_the_ratio(dtype, bound):
    policy = small_policy(batch_size=4)
    policy.network.cast_backbone(dtype)
    tasks = [TASKS[row % 4] for row in range(ROWS)]
    chunks = policy.act(looks(ROWS), tasks, range(ROWS), SAMPLING)
    chains = torch.from_numpy(np.stack([chunk.chain for chunk in chunks]))
    old, same, other = (means_in_pieces(policy, chains, size) for size in (32, 32, 1))
    stds, x_next = policy.scored_stds(SAMPLING), chains[:, 1:, :4, :7]
    assert torch.equal(log_ratio(same, old, x_next, stds), torch.zeros(ROWS, 4))
    assert float(log_ratio(other, old, x_next, stds).std()) < bound
