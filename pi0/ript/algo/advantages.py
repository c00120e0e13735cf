"""Advantages: how much better a rollout was than others."""

import torch
from torch import Tensor


def group_advantages(rewards: Tensor, mean_reward: float) -> Tensor:
    """Return the advantage of every rollout: leave-one-out, or above the mean of all where K = 1.

    Args:
        rewards: [G, K], any dtype; computed in float64.
        mean_reward: Over the groups of all ranks; used where K = 1.

    Returns:
        float64 [G, K].
    """
    return above_mean(rewards, mean_reward) if rewards.shape[1] == 1 else leave_one_out(rewards)


def leave_one_out(rewards: Tensor) -> Tensor:
    """Return each rollout's reward minus the mean reward of its K - 1 siblings.

    Closed form: ``K / (K - 1) * (R_k - mean R)``. It is never divided by the group's deviation:
    that would let groups with rare outcomes dominate and bias the gradient.

    Args:
        rewards: [G, K], any dtype; computed in float64.

    Returns:
        float64 [G, K]; every row sums to 0, and a uniform group is exactly 0.

    Raises:
        ValueError: If a group has fewer than two rollouts: there is no sibling to compare with.
    """
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(
            f"leave-one-out needs rewards of shape [groups, K >= 2], got {tuple(rewards.shape)}; "
            "set algo.rloo_batch_size to 2 or more"
        )
    values = rewards.to(torch.float64)
    siblings = values.shape[1] - 1
    return values - (values.sum(dim=1, keepdim=True) - values) / siblings


def above_mean(rewards: Tensor, mean: float) -> Tensor:
    """Return each rollout's reward minus the mean reward of all: the baseline where K = 1.

    Unlike siblings, rollouts of other initial states say nothing about how hard this one is, so the
    advantage of an easy state is too high and that of a hard one too low; the mean over the batch is 0.

    Args:
        rewards: [G, 1], any dtype; computed in float64.
        mean: Over the groups of all ranks.

    Returns:
        float64 [G, 1]; those of all ranks sum to 0.
    """
    return rewards.to(torch.float64) - mean
