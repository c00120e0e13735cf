"""Likelihood ratios of Gaussian denoising transitions, and the losses that are made of them.

Every denoise step is one Gaussian transition ``x[k + 1] ~ N(mean_k, std_k^2)``. Log-densities are SUMMED over the
h x 7 scored entries: only the sum makes E_old[ratio] equal 1.

Shape legend: B samples (policy steps), S denoise steps, h executed actions, 7 simulator action dims.
"""

import torch
from torch import Tensor

# Keeps exp finite. Far outside every clip range, where gradients are 0 but for bad rollouts without dual clip:
# their loss would grow with the ratio, and stops growing here.
LOG_RATIO_BOUND = 10.0

# Caps the weight of a transition that the policy before the update makes far more likely than the one that
# acted: a few such samples would decide the update. At a KL of 0.04 a ratio of 5 is off by 5.8 sigma.
IMPORTANCE_BOUND = 5.0

# AcceRL's sigma: log ratios of half a unit count exp(-1/2) = 61 percent, of one unit 14.
SMOOTH_WIDTH = 0.5


def log_ratio(
    mean: Tensor,
    mean_old: Tensor,
    x_next: Tensor,
    std: Tensor,
    counts: Tensor | None = None,
) -> Tensor:
    """Return log p_new(x_next) - log p_old(x_next) of every transition.

    The difference form, not a difference of two log-densities: it is exactly 0 for equal means.

    Args:
        mean: [B, S, h, 7], transition means of the current policy.
        mean_old: [B, S, h, 7], transition means of the policy that is the reference.
        x_next: [B, S, h, 7], what was drawn.
        std: [S], standard deviations of the transitions, > 0.
        counts: Bool [B, S, h], actions whose entries count; None for all.

    Returns:
        [B, S].
    """
    gain = (mean - mean_old) * (2 * x_next - mean - mean_old)
    if counts is not None:
        gain = gain * counts[..., None]
    return gain.sum(dim=(-2, -1)) / (2 * std**2)


def gaussian_kl(mean: Tensor, mean_old: Tensor, std: Tensor) -> Tensor:
    """Return the exact KL divergence between old and new transition, [B, S], >= 0."""
    return (mean - mean_old).square().sum(dim=(-2, -1)) / (2 * std**2)


def clipped_surrogate(
    log_ratio: Tensor,
    advantage: Tensor,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None,
) -> Tensor:
    """Return the loss of every transition: PPO's clip, bounded for bad rollouts as well.

    Args:
        log_ratio: [B, S].
        advantage: [B], the advantage of the sample's episode.
        clip_low: Ratios below 1 - this gain nothing where the advantage is negative.
        clip_high: Ratios above 1 + this gain nothing where the advantage is positive.
        dual_clip: For negative advantages the loss never exceeds this many times -advantage,
            so that one transition that became far too likely cannot dominate a step; None for no bound.

    Returns:
        [B, S], to be minimized.
    """
    gain = advantage[:, None]
    ratio = log_ratio.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    loss = -torch.minimum(ratio * gain, clipped * gain)
    if dual_clip is None:
        return loss
    return torch.where(gain < 0, torch.minimum(loss, -dual_clip * gain), loss)


def importance(log_ratio: Tensor) -> Tensor:
    """Return the weight of every transition that older weights drew, in (0, ``IMPORTANCE_BOUND``].

    Args:
        log_ratio: [B, S], of the policy before the update to the behavior weights.
    """
    return log_ratio.exp().clamp(max=IMPORTANCE_BOUND)


def smooth_weight(log_ratio: Tensor) -> Tensor:
    """Return what the advantage of a transition is multiplied by in the gradient, any shape.

    ``exp(x - x^2 / (2 s^2))`` for a log ratio x: 1 at 0, at most ``exp(s^2 / 2)`` = 1.13, at x = s^2.
    """
    return (log_ratio - log_ratio.square() / (2 * SMOOTH_WIDTH**2)).exp()


def smooth_surrogate(log_ratio: Tensor, advantage: Tensor) -> Tensor:
    """Return the loss of every transition that older weights drew: GIPO, Gaussian weights in place of a clip.

    ``-exp(-x^2 / (2 s^2)) r A`` for the ratio r and its logarithm x, without gradient through the weight. Source:
    AcceRL (arXiv 2603.18464), github.com/distanceLu/AcceRL, minimal_modelfree_GIPO, where x is of one token of an
    action and here of one transition.

    Args:
        log_ratio: [B, S], of the policy of this moment to the behavior weights.
        advantage: [B], the advantage of the sample's episode.

    Returns:
        [B, S], to be minimized.
    """
    bounded = log_ratio.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    fading = (-bounded.detach().square() / (2 * SMOOTH_WIDTH**2)).exp()
    return -fading * bounded.exp() * advantage[:, None]


def clip_fraction(log_ratio: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """Return which ratios left the clip range: 1 or 0 of the same shape and dtype."""
    ratio = log_ratio.detach().exp()
    return ((ratio < 1 - clip_low) | (ratio > 1 + clip_high)).to(log_ratio.dtype)


def mean_over_scored(values: Tensor, is_scored: Tensor) -> Tensor:
    """Return the mean of [B, S] over the scored steps of every sample, [B]."""
    if bool(is_scored.all()):
        return values.mean(dim=1)
    return torch.where(is_scored, values, 0.0).sum(dim=1) / is_scored.sum(dim=1)
