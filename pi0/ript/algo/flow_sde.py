"""The Flow-SDE objective: exact Gaussian ratios of denoising transitions, clipped as in PPO.

Ratios and their clip range are relative to the policy before the update. Where the behavior weights are older,
under ``training.overlap`` and for replayed samples, one of two rules makes up for it:

- decoupled: every transition's loss is multiplied by how much more or less likely the policy before the update
  makes it, as in decoupled PPO (Hilton et al., arXiv 2110.00641): from the point where a transition begins, an
  expectation over what older weights drew becomes one over what the policy before the update would draw. The
  factor is exactly 1 where both are the same policy.
- smooth: no clip; the ratio is that of the policy of this moment to the behavior weights, and its gradient
  fades with the distance of its logarithm from 0, see ``smooth_surrogate``. New samples are clipped as ever.

Which points were reached is left as it is, as in every pass of PPO after the first.

Shape legend: b of n samples (policy steps), S denoise steps, h executed actions, 7 simulator action dims.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pi0.ript.algo.objective import (
    Indices,
    Model,
    ReplayTotals,
    Targets,
    Terms,
    by_sample,
    require_finite,
)
from pi0.ript.algo.reference import Reference
from pi0.ript.algo.transitions import (
    clip_fraction,
    clipped_surrogate,
    gaussian_kl,
    importance,
    log_ratio,
    mean_over_scored,
    smooth_surrogate,
    smooth_weight,
)
from pi0.ript.config.algo import AlgoConfig
from pi0.ript.types import Batch


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
    ) -> ReplayTotals | None:
        """Compute the old means in the micro-batches of the first pass, so that its ratios are exactly 1."""
        self._model, self._targets = model, targets
        self._mean_old = by_sample(
            micro_batches, [model.means(micro_batch) for micro_batch in micro_batches]
        )
        require_finite(self._mean_old, "transition means of the current policy")
        self._mean_ref = self._reference.predict(model, micro_batches, model.means)
        behavior_mean = self._behavior_mean(model, micro_batches)
        if behavior_mean is None:
            self._log_importance, self._stale_kl = None, None
            return None
        log_importance = self._log_ratios(self._mean_old, behavior_mean, slice(None))
        stale_kl = gaussian_kl(self._mean_old, behavior_mean, model.stds)
        self._log_importance, self._stale_kl = log_importance, stale_kl
        return self._replay_totals(log_importance, stale_kl)

    def terms(self, own_index: Indices, epoch: int) -> Terms:
        """Return loss and metrics of a micro-batch."""
        algo, is_scored = self._algo, self._targets.is_scored[own_index]
        mean, mean_old = self._model.means(own_index), self._mean_old[own_index]
        log_ratios = self._log_ratios(mean, mean_old, own_index)
        loss = mean_over_scored(self._surrogate(log_ratios, own_index), is_scored)
        if self._mean_ref is not None:
            distance = gaussian_kl(mean, self._mean_ref[own_index], self._model.stds)
            loss = loss + self._reference.weight * mean_over_scored(distance, is_scored)
        kl = gaussian_kl(mean.detach(), mean_old, self._model.stds)
        clipped = clip_fraction(log_ratios, algo.ppo_clip_range, algo.ppo_clip_high)
        stale_kl = None if self._stale_kl is None else self._stale_kl[own_index]
        return Terms(
            loss=loss,
            kl=mean_over_scored(kl, is_scored),
            log_ratios=log_ratios.detach(),
            clip_fraction=mean_over_scored(clipped, is_scored),
            stale_kl=None if stale_kl is None else mean_over_scored(stale_kl, is_scored),
        )

    def _log_ratios(self, mean: Tensor, mean_old: Tensor, own_index: Indices | slice) -> Tensor:
        """Return the log ratios of two policies for some samples, [b, S]; 0 where not scored."""
        num_executed, num_dims = mean.shape[-2:]
        x_next = self._model.chains[own_index][:, 1:, :num_executed, :num_dims]
        counts = self._counting(own_index, mean)
        log_ratios = log_ratio(mean, mean_old, x_next, self._model.stds, counts)
        require_finite(log_ratios, "log ratios")
        return torch.where(self._targets.is_scored[own_index], log_ratios, 0.0)

    def _surrogate(self, log_ratios: Tensor, own_index: Indices) -> Tensor:
        """Return the loss of every transition of some samples, [b, S]."""
        algo, advantages = self._algo, self._targets.advantages[own_index]
        clipped = clipped_surrogate(
            log_ratios, advantages, algo.ppo_clip_range, algo.ppo_clip_high, algo.dual_clip
        )
        if self._log_importance is None:
            return clipped
        log_importance = self._log_importance[own_index]
        if not self._is_smooth:
            return importance(log_importance) * clipped
        is_replayed = torch.as_tensor(own_index < self._num_replayed).to(log_ratios.device)
        smooth = smooth_surrogate(log_importance + log_ratios, advantages)
        return torch.where(is_replayed[:, None], smooth, clipped)

    def _counting(self, own_index: Indices | slice, mean: Tensor) -> Tensor | None:
        """Return which actions count in every transition of some samples, bool [b, S, h]; None for all.

        Actions that were not executed count as well until the last denoise step, because those that were
        attend to them. The last step draws every action on its own: from there on they change nothing.
        """
        if not self._algo.mask_unexecuted:
            return None
        counts = torch.ones(mean.shape[:-1], dtype=torch.bool, device=mean.device)
        counts[:, -1] = self._targets.is_executed(own_index, mean.shape[-2])
        return counts

    @property
    def _num_replayed(self) -> int:
        means = self._targets.behavior_means
        return 0 if means is None else len(means)

    @property
    def _is_smooth(self) -> bool:
        return self._num_replayed > 0 and self._algo.replay_weighting == "smooth"

    def _behavior_mean(self, model: Model, micro_batches: Sequence[Indices]) -> Tensor | None:
        """Return the means [n, S, h, 7] under the weights that drew the samples; None for the policy's own."""
        drawn_with = self._targets.behavior_means
        if drawn_with is not None:
            return torch.cat([drawn_with, self._mean_old[len(drawn_with) :]])
        if model.behavior_weights is None:
            return None
        with model.holding(model.behavior_weights):
            means = by_sample(
                micro_batches, [model.means(micro_batch) for micro_batch in micro_batches]
            )
        require_finite(means, "transition means of the behavior weights")
        return means

    def _replay_totals(self, log_importance: Tensor, stale_kl: Tensor) -> ReplayTotals | None:
        """Return the sums over replayed samples, None where there are none; both arguments [n, S]."""
        if not self._num_replayed:
            return None
        replayed = slice(self._num_replayed)
        is_scored = self._targets.is_scored[replayed]
        log_importance = log_importance[replayed][is_scored].double()
        weight = smooth_weight(log_importance) if self._is_smooth else importance(log_importance)
        return ReplayTotals(
            num_samples=self._num_replayed,
            num_transitions=len(weight),
            weight=float(weight.sum()),
            squared_weight=float(weight.square().sum()),
            kl=float(stale_kl[replayed][is_scored].double().sum()),
        )

    @property
    def means_before(self) -> tuple[Indices, Tensor]:
        """Return the samples of the last update, int64 [n], and their transition means before it, [n, S, h, 7]."""
        return self._targets.batch_index, self._mean_old

    def finish(self) -> None:
        """Nothing has to be remembered."""

    def state(self) -> dict[str, Tensor]:
        """Return the reference policy."""
        return self._reference.state()

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Continue from a stored state."""
        self._reference.load_state(tensors)
