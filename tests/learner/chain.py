"""Episodes of a chain whose values are known: link n holds with probability ``HOLDS[n]``, else the episode fails."""

import numpy as np
import torch

from pi0.records import Observation
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.learner.minibatches import GlobalSamples
from pi0.ript.types import Batch

HOLDS = (0.9, 0.5, 0.8)
GAMMA = 0.9
# What reaches the end from each link: p2, g p1 V2, g p0 V1.
VALUES = np.array([GAMMA**2 * 0.9 * 0.5 * 0.8, GAMMA * 0.5 * 0.8, 0.8])
WIDTH = 6
GROUP_SIZE = 4


def features_of(links: np.ndarray) -> torch.Tensor:
    """Return features from which the link can be told, float32 [n, WIDTH]."""
    angles = np.outer(links + 1, np.arange(1, WIDTH + 1))
    return torch.from_numpy(np.sin(angles).astype(np.float32))


def draw_chain_batch(num_groups: int, seed: int = 0) -> tuple[Batch, torch.Tensor, GlobalSamples]:
    """Return groups of four episodes with leave-one-out advantages, their features and all samples."""
    rng = np.random.default_rng(seed)
    holds = rng.uniform(size=(num_groups * GROUP_SIZE, 3)) < HOLDS
    lengths = np.where(holds.all(axis=1), 3, holds.argmin(axis=1) + 1)
    rewards = holds.all(axis=1).astype(np.float64)
    means = rewards.reshape(num_groups, GROUP_SIZE).mean(axis=1).repeat(GROUP_SIZE)
    links = np.concatenate([np.arange(length) for length in lengths])
    n = len(links)
    weights = np.repeat(1 / (len(lengths) * lengths), lengths).astype(np.float32)
    batch = Batch(
        observations=n * (Observation(images=np.zeros((1, 1, 1, 3), np.uint8), proprio=np.zeros(9)),),
        tasks=n * ("",),
        chains=np.zeros((n, 2, 1, 7), np.float32),
        advantages=np.repeat(GROUP_SIZE / (GROUP_SIZE - 1) * (rewards - means), lengths).astype(np.float32),
        weights=weights,
        is_success=np.repeat(rewards > 0, lengths),
        is_scored=np.ones((n, 1), np.bool_),
        num_executed=np.ones(n, np.int64),
        groups=np.repeat(np.arange(num_groups).repeat(GROUP_SIZE), lengths),
        seeds=np.arange(n),
        elapsed=(links / 4).astype(np.float32),
    )  # fmt: skip
    samples = GlobalSamples.gather(SINGLE_PROCESS, batch.groups, weights, torch.device("cpu"))
    return batch, features_of(links), samples
