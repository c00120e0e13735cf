"""Advantages: how much better a rollout was than others, and which of its policy steps made it so.

The second half needs values of the policy steps. Shape legend: G groups, K rollouts, n policy steps of any
number of episodes, one episode after the other.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LEAST_DEVIATION = (
    1e-5  # added, as RLinf does, so that rounding is not blown up where all values are alike
)


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


def gae(
    rewards: NDArray[np.float64],
    values: NDArray[np.float64],
    begins: NDArray[np.bool_],
    gamma: float,
    gae_lambda: float,
) -> NDArray[np.float64]:
    """Return the generalized advantage of every policy step (Schulman et al., arXiv 1506.02438, equation 16).

    Nothing follows the last step of an episode: success ends it, and so does the step limit, within which
    success is defined. It is a failure, not an interruption, and its value is not carried on.

    Args:
        rewards: [n], received after each step.
        values: [n], before each step.
        begins: [n], whether the step is the first of its episode.
        gamma: Discount per policy step, in (0, 1].
        gae_lambda: 1 compares what was received with the value, 0 the value of the next step with it.

    Returns:
        float64 [n]; plus ``values`` they are the returns that the values should have had.
    """
    following = np.append(values[1:], 0.0) * ~np.append(begins[1:], True)
    return discounted_sums(rewards + gamma * following - values, begins, gamma * gae_lambda)


def discounted_sums(
    amounts: NDArray[np.float64], begins: NDArray[np.bool_], discount: float
) -> NDArray[np.float64]:
    """Return what comes from each policy step to the end of its episode, float64 [n].

    Args:
        amounts: [n], at each step.
        begins: [n], whether the step is the first of its episode.
        discount: Factor per step.
    """
    sums = np.empty(len(amounts))
    total = 0.0
    for step in reversed(range(len(amounts))):
        total = amounts[step] + discount * total
        sums[step] = total
        if begins[step]:
            total = 0.0
    return sums


def above_episode_mean(
    values: NDArray[np.float64], begins: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return how far values [n] are above the mean of their episode: each episode's sum is 0, float64 [n]."""
    episode = np.cumsum(begins) - 1
    means = np.bincount(episode, weights=values) / np.bincount(episode)
    return values - means[episode]


def standardized(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values [n] with mean 0 and standard deviation 1, float64 [n]; those that are all alike become 0."""
    return (values - values.mean()) / (values.std() + LEAST_DEVIATION)
