"""Batches that a small pi0 drew itself."""

import numpy as np
import torch

from pi0.policy import Pi0Policy
from pi0.records import Sampling
from pi0.ript.learner.batch import scored_steps
from pi0.ript.types import Batch
from tests.policy_parts import TASKS, make_observations

SAMPLING = Sampling(num_steps=4, noise_scale=0.5)


def draw_batch(
    policy: Pi0Policy, samples: int, seed: int = 0, sampling: Sampling = SAMPLING
) -> Batch:
    """Return samples that the policy drew itself, with random advantages and weights."""
    rng = np.random.default_rng(seed)
    observations = make_observations(samples, seed)
    tasks = [TASKS[sample % len(TASKS)] for sample in range(samples)]
    chunks = policy.act(observations, tasks, list(range(samples)), sampling)
    weights = rng.uniform(0.5, 1.5, samples)
    advantages = rng.choice([-0.5, 1.0], samples).astype(np.float32)
    return Batch(
        observations=tuple(observations),
        tasks=tuple(tasks),
        chains=np.stack([chunk.chain for chunk in chunks]),
        advantages=advantages,
        weights=(weights / weights.sum()).astype(np.float32),
        is_success=advantages > 0,
        is_scored=np.stack([scored_steps(chunk) for chunk in chunks]),
        num_executed=np.full(samples, policy.card.execute_steps),
        groups=np.arange(samples) // 3,
        seeds=np.arange(samples),
        elapsed=(np.arange(samples) % 3 / 4).astype(np.float32),
    )


def weights_of(policy: Pi0Policy) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in policy.network.named_parameters()}


def are_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
