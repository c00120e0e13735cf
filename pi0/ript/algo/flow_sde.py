"""The Flow-SDE objective: exact Gaussian ratios of denoising transitions, clipped as in PPO.

Ratios and their clip range are relative to the policy before the update. Where the behavior weights are older,
every transition's loss is multiplied by how much more or less likely the policy before the update makes it, as
in decoupled PPO (Hilton et al., arXiv 2110.00641): from the point where a transition begins, an expectation
over what older weights drew becomes one over what the policy before the update would draw. Which points
were reached is left as it is, as in every pass of PPO after the first. The factor is exactly 1 where both
are the same policy.

Shape legend: B samples (policy steps), S denoise steps, h executed actions, 7 simulator action dims.
Every denoise step is one Gaussian transition ``x[k + 1] ~ N(mean_k, std_k^2)``. Log-densities are
SUMMED over the h x 7 scored entries: only the sum makes E_old[ratio] equal 1.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pi0.ript.algo.objective import Indices, Model, Targets, Terms, by_sample, require_finite
from pi0.ript.algo.reference import Reference
from pi0.ript.config.algo import AlgoConfig
from pi0.ript.types import Batch

# Keeps exp finite. Far outside every clip range, where gradients are 0 but for bad rollouts without dual clip:
# their loss would grow with the ratio, and stops growing here.
LOG_RATIO_BOUND = 10.0

# Caps the weight of a transition that the policy before the update makes far more likely than the one that
# acted: a few such samples would decide the update. At a KL of 0.04 a ratio of 5 is off by 5.8 sigma.
IMPORTANCE_BOUND = 5.0


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


def clip_fraction(log_ratio: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """Return which ratios left the clip range: 1 or 0 of the same shape and dtype."""
    ratio = log_ratio.detach().exp()
    return ((ratio < 1 - clip_low) | (ratio > 1 + clip_high)).to(log_ratio.dtype)


def mean_over_scored(values: Tensor, is_scored: Tensor) -> Tensor:
    """Return the mean of [B, S] over the scored steps of every sample, [B]."""
    if bool(is_scored.all()):
        return values.mean(dim=1)
    return torch.where(is_scored, values, 0.0).sum(dim=1) / is_scored.sum(dim=1)


class FlowSde:
    """The policy gradient through every scored denoising transition."""

    def __init__(self, algo: AlgoConfig) -> None:
        self._algo = algo
        self._reference = Reference(algo.reference_weight)

    @property
    def kl_stop(self) -> float | None:
        """Return the mean KL per transition at which an update ends."""
        return self._algo.kl_stop

    def has_signal(self, batch: Batch) -> NDArray[np.bool_]:
        """Return the samples that were better or worse than their siblings."""
        return (batch.advantages != 0) & (batch.weights > 0)

    @torch.no_grad()
    def begin(
        self, model: Model, targets: Targets, micro_batches: Sequence[Indices], seed: int
    ) -> None:
        """Compute the old means in the micro-batches of the first pass, so that its ratios are exactly 1."""
        self._model, self._targets = model, targets
        self._mean_old = by_sample(
            micro_batches, [model.means(micro_batch) for micro_batch in micro_batches]
        )
        require_finite(self._mean_old, "transition means of the current policy")
        self._mean_ref = self._reference.predict(model, micro_batches, model.means)
        self._importance, self._stale_kl = self._staleness(model, micro_batches)

    def terms(self, own_index: Indices, epoch: int) -> Terms:
        """Return loss and metrics of a micro-batch."""
        algo, is_scored = self._algo, self._targets.is_scored[own_index]
        mean, mean_old = self._model.means(own_index), self._mean_old[own_index]
        num_executed, num_dims = mean.shape[-2:]
        x_next = self._model.chains[own_index][:, 1:, :num_executed, :num_dims]
        counts = self._counting(own_index, mean)
        log_ratios = log_ratio(mean, mean_old, x_next, self._model.stds, counts)
        require_finite(log_ratios, "log ratios")
        log_ratios = torch.where(is_scored, log_ratios, 0.0)
        surrogate = clipped_surrogate(
            log_ratios,
            self._targets.advantages[own_index],
            algo.ppo_clip_range,
            algo.ppo_clip_high,
            algo.dual_clip,
        )
        if self._importance is not None:
            surrogate = self._importance[own_index] * surrogate
        loss = mean_over_scored(surrogate, is_scored)
        if self._mean_ref is not None:
            distance = gaussian_kl(mean, self._mean_ref[own_index], self._model.stds)
            loss = loss + self._reference.weight * mean_over_scored(distance, is_scored)
        kl = gaussian_kl(mean.detach(), mean_old, self._model.stds)
        clipped = clip_fraction(log_ratios, algo.ppo_clip_range, algo.ppo_clip_high)
        return Terms(
            loss=loss,
            kl=mean_over_scored(kl, is_scored),
            log_ratios=log_ratios.detach(),
            clip_fraction=mean_over_scored(clipped, is_scored),
            stale_kl=None if self._stale_kl is None else self._stale_kl[own_index],
        )

    def _counting(self, own_index: Indices, mean: Tensor) -> Tensor | None:
        """Return which actions count in every transition of some samples, bool [b, S, h]; None for all.

        Actions that were not executed count as well until the last denoise step, because those that were
        attend to them. The last step draws every action on its own: from there on they change nothing.
        """
        if not self._algo.mask_unexecuted:
            return None
        counts = torch.ones(mean.shape[:-1], dtype=torch.bool, device=mean.device)
        counts[:, -1] = self._targets.is_executed(own_index, mean.shape[-2])
        return counts

    def _staleness(
        self, model: Model, micro_batches: Sequence[Indices]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return importance weights [n, S] and KL [n] of samples that older weights drew."""
        if model.behavior_weights is None:
            return None, None
        with model.holding(model.behavior_weights):
            behavior_mean = by_sample(
                micro_batches, [model.means(micro_batch) for micro_batch in micro_batches]
            )
        require_finite(behavior_mean, "transition means of the behavior weights")
        num_executed, num_dims = behavior_mean.shape[-2:]
        x_next = model.chains[:, 1:, :num_executed, :num_dims]
        counts = self._counting(np.arange(len(behavior_mean)), behavior_mean)
        log_ratios = log_ratio(self._mean_old, behavior_mean, x_next, model.stds, counts)
        weight = importance(log_ratios)
        kl = gaussian_kl(self._mean_old, behavior_mean, model.stds)
        return weight, mean_over_scored(kl, self._targets.is_scored)

    def finish(self) -> None:
        """Nothing has to be remembered."""

    def state(self) -> dict[str, Tensor]:
        """Return the reference policy."""
        return self._reference.state()

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Continue from a stored state."""
        self._reference.load_state(tensors)
