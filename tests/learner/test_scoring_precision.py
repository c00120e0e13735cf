"""Scoring at unchanged weights: exactly ratio 1 in the same call, close to it in any other."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pi0.ript.algo.transitions import log_ratio
from tests.learner.samples import SAMPLING, draw_batch
from tests.learner.updates import ALGO, record
from tests.policy_parts import TASKS, make_observations, small_policy

SAMPLES = 32
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


@torch.no_grad()
def means_in_micro_batches(policy, chains, size):
    """Score as an update does: prefixes are read once, samples come in micro-batches of any size."""
    inputs = policy.encode(
        make_observations(SAMPLES), [TASKS[sample % 4] for sample in range(SAMPLES)]
    )
    prefix = policy.prefix(inputs)
    micro_batches = [slice(start, start + size) for start in range(0, SAMPLES, size)]
    return torch.cat(
        [
            policy.transition_means(
                prefix.select(samples), inputs.select(samples), chains[samples], SAMPLING
            )
            for samples in micro_batches
        ]
    )


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-4), (torch.bfloat16, 0.02)], ids=["fp32", "bf16"]
)
def test_other_micro_batches_hardly_change_the_ratio(dtype, bound):
    policy = small_policy(batch_size=4)
    policy.network.cast_backbone(dtype)
    tasks = [TASKS[sample % 4] for sample in range(SAMPLES)]
    chunks = policy.act(make_observations(SAMPLES), tasks, range(SAMPLES), SAMPLING)
    chains = torch.from_numpy(np.stack([chunk.chain for chunk in chunks]))
    old, same, other = (means_in_micro_batches(policy, chains, size) for size in (32, 32, 1))
    stds, x_next = policy.scored_stds(SAMPLING), chains[:, 1:, :4, :7]
    assert torch.equal(log_ratio(same, old, x_next, stds), torch.zeros(SAMPLES, 4))
    assert float(log_ratio(other, old, x_next, stds).std()) < bound


@DTYPES
def test_the_trainer_scores_what_the_policy_drew_as_the_policy_did(dtype):
    rollout_and_trainer_agree(small_policy(batch_size=4), dtype)


@pytest.mark.gpu
@DTYPES
def test_the_trainer_scores_on_a_gpu_what_the_policy_drew_there(dtype):
    policy = small_policy(batch_size=4)
    policy.device = torch.device("cuda")
    policy.network.to(policy.device)
    rollout_and_trainer_agree(policy, dtype)


def rollout_and_trainer_agree(policy, dtype):
    """Compare, per denoise step, the policy that acts four samples at a time with updates of 32 samples."""
    policy.network.cast_backbone(dtype)
    stats, _ = record(policy, draw_batch(policy, SAMPLES), replace(ALGO, micro_batch_size=SAMPLES))
    assert abs(stats.rollout_log_ratio_mean) < 0.01
    assert stats.rollout_log_ratio_std < 0.05
