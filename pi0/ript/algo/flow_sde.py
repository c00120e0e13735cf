"""The Flow-SDE objective: exact Gaussian ratios of denoising transitions, clipped as in PPO.

Shape legend: B rows (decisions), S denoise steps, h executed actions, 7 simulator action dims.
Every denoise step is one Gaussian transition ``x[k + 1] ~ N(mean_k, std_k^2)``. Log-densities are
SUMMED over the h x 7 scored entries: only the sum makes E_old[ratio] equal 1.
"""

import torch
from torch import Tensor

LOG_RATIO_BOUND = (
    10.0  # keeps exp finite; far outside every clip range, where gradients are 0 anyway
)


def log_ratio(mean: Tensor, mean_old: Tensor, x_next: Tensor, std: Tensor) -> Tensor:
    """Return log p_new(x_next) - log p_old(x_next) of every transition.

    The difference form, not a difference of two log-densities: it is exactly 0 for equal means.

    Args:
        mean: [B, S, h, 7], transition means of the current policy.
        mean_old: [B, S, h, 7], transition means of the policy that is the reference.
        x_next: [B, S, h, 7], what was drawn.
        std: [S], standard deviations of the transitions, > 0.

    Returns:
        [B, S].
    """
    gain = (mean - mean_old) * (2 * x_next - mean - mean_old)
    return gain.sum(dim=(-2, -1)) / (2 * std**2)


def gaussian_kl(mean: Tensor, mean_old: Tensor, std: Tensor) -> Tensor:
    """Return the exact KL divergence between old and new transition, [B, S], >= 0."""
    return (mean - mean_old).square().sum(dim=(-2, -1)) / (2 * std**2)


def clipped_surrogate(
    log_ratio: Tensor, advantage: Tensor, clip_low: float, clip_high: float, dual_clip: float
) -> Tensor:
    """Return the loss of every transition: PPO's clip, bounded for bad rollouts as well.

    Args:
        log_ratio: [B, S].
        advantage: [B], the advantage of the row's episode.
        clip_low: Ratios below 1 - this gain nothing where the advantage is negative.
        clip_high: Ratios above 1 + this gain nothing where the advantage is positive.
        dual_clip: For negative advantages the loss never exceeds this many times -advantage,
            so that one transition that became far too likely cannot dominate a step.

    Returns:
        [B, S], to be minimised.
    """
    gain = advantage[:, None]
    ratio = log_ratio.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    loss = -torch.minimum(ratio * gain, clipped * gain)
    return torch.where(gain < 0, torch.minimum(loss, -dual_clip * gain), loss)


def clip_fraction(log_ratio: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """Return the share of transitions, [B], of every row whose ratio left the clip range."""
    ratio = log_ratio.detach().exp()
    return ((ratio < 1 - clip_low) | (ratio > 1 + clip_high)).to(log_ratio.dtype).mean(dim=1)
