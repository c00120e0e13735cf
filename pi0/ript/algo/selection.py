"""Dynamic rejection: which groups of rollouts carry a learning signal."""

import numpy as np
from numpy.typing import NDArray


def is_mixed(rewards: NDArray[np.float64]) -> bool:
    """Return whether the rollouts of a group ended differently, rewards [K].

    A uniform group has advantage 0 everywhere, so rejecting it changes no gradient, only the cost.
    """
    return bool(rewards.size) and bool(rewards.min() != rewards.max())


def is_accepted(rewards: NDArray[np.float64], *, needs_mixed: bool) -> bool:
    """Return whether a complete group, rewards [K], enters the batch.

    Args:
        rewards: [K], one per rollout; groups with a crashed rollout have no rewards and never get here.
        needs_mixed: ``algo.enable_dynamic_sampling``.
    """
    return is_mixed(rewards) or not needs_mixed
