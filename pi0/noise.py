"""Standard normal noise of a row, a function of its seed alone: no neighbour, order or device changes it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def draw_noise(
    seeds: Sequence[int], num_steps: int, horizon: int, action_dim: int
) -> tuple[Tensor, Tensor]:
    """Return what the chains of B rows need.

    Args:
        seeds: Of every row.
        num_steps: Denoise steps S.
        horizon: Actions per chunk H.
        action_dim: Model action dims A.

    Returns:
        Noise float32 [B, S + 1, H, A], whose entry 0 begins the chain, and a denoise step int64 [B].
    """
    shape = (num_steps + 1, horizon, action_dim)
    generators = [np.random.Generator(np.random.Philox(seed)) for seed in seeds]
    noise = np.stack([g.standard_normal(shape, dtype=np.float32) for g in generators])
    steps = np.array([g.integers(num_steps) for g in generators])
    return torch.from_numpy(noise), torch.from_numpy(steps)
