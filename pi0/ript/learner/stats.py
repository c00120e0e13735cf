"""Metrics of an update: what is reported of it, what one rank accumulates, and how those of all ranks are joined."""

from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch

from pi0.ript.algo.objective import ReplayTotals, Terms
from pi0.ript.interfaces import Ranks
from pi0.ript.learner.audit import Audit

NOT_AUDITED = Audit(
    z_mean=0.0, z_variance=0.0, off_mask_error=0.0, log_ratio_mean=0.0, log_ratio_std=0.0, count=0
)
NOT_REPLAYED = ReplayTotals(0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticStats:
    """What the critic made of a batch, over the policy steps of all ranks.

    Attributes:
        explained_variance: 1 - Var(outcome - value) / Var(outcome), of values that had not yet learned from these
            episodes; at most 1, and 0 for a constant. Outcomes are discounted rewards. None where all are alike.
        mean: Mean of those values.
        loss: Mean squared error of the last pass over the batch, halved.
        shift: Mean of how far an advantage is from what it is without the critic.
    """

    explained_variance: float | None
    mean: float
    loss: float
    shift: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStats:
    """What one update did, as plain floats.

    Attributes:
        loss: Weighted loss of the first pass.
        kl: Mean exact Gaussian KL per (policy step, denoise step) between old and new policy at the end; None
            for objectives without likelihood, as are the next metric and ``log_ratio_max``.
        clip_fraction: Share of ratios outside the clip range, over all passes.
        grad_norm: Mean gradient norm before clipping.
        log_ratio_max: Largest |log ratio| before the first optimizer step; 0 if scoring is exact.
        num_optimizer_steps: Optimizer steps taken.
        lr_share: What of the learning rate they used, in (0, 1].
        has_stopped_early: Whether the KL bound ended the update.
        z_mean: Mean of (x_next - mean) / std over stored transitions at unchanged weights; about 0.
        z_variance: Variance of the same; about 1.
        off_mask_error: Largest distance of a stored entry without noise from its Euler step; about 0.
        rollout_log_ratio_mean: Mean log ratio of the trainer to the behavior weights, at unchanged weights,
            of the denoise step where it is furthest from 0; 0 if acting and scoring round alike.
        rollout_log_ratio_std: Its standard deviation, of the denoise step where that is largest.
        stale_kl: Mean exact KL per transition from the behavior weights to those before the update; None
            where they are the same.
        num_replayed: Samples of earlier training steps; None where there are none, like the next two.
        effective_samples: (sum w)^2 / (n sum w^2) over their n transitions, w what each one's advantage is
            multiplied by before the first optimizer step; 1 where all weigh the same.
        replay_kl: Mean exact KL per transition from the weights that drew them to those before the update.
        critic: What the critic made of the batch; None without one.
    """

    loss: float
    kl: float | None
    clip_fraction: float | None
    grad_norm: float
    log_ratio_max: float | None
    num_optimizer_steps: int
    lr_share: float
    has_stopped_early: bool
    z_mean: float
    z_variance: float
    off_mask_error: float
    rollout_log_ratio_mean: float
    rollout_log_ratio_std: float
    stale_kl: float | None = None
    num_replayed: int | None = None
    effective_samples: float | None = None
    replay_kl: float | None = None
    critic: CriticStats | None = None


Number = TypeVar("Number")


class _Sent(NamedTuple, Generic[Number]):
    """What a rank tells the others, besides ``ReplayTotals``: its own numbers, or those of all ranks, [ranks]."""

    loss: Number
    kl: Number
    clipped: Number
    num_processed: Number
    log_ratio_max: Number
    stale_kl: Number
    num_audited: Number
    z_mean: Number
    z_variance: Number
    off_mask_error: Number
    log_ratio_mean: Number
    log_ratio_std: Number


@dataclass(slots=True)
class UpdateMetrics:
    """What one rank accumulates; gradient norms are the same on every rank.

    Attributes:
        lr_share: What of the learning rate is used.
        audit: How well stored chains agree with the policy; None on a rank without new samples.
        replay: Sums over replayed samples; None on a rank without any.
        loss: Weighted loss of the first pass.
        stale_kl: Weighted KL from the behavior weights to those before the update, in the first pass.
        log_ratio_max: Largest |log ratio| before the first optimizer step.
        clipped: Samples times share of clipped ratios.
        num_processed: Samples of all passes together.
        grad_norms: Of every optimizer step.
    """

    lr_share: float
    audit: Audit | None = None
    replay: ReplayTotals | None = None
    loss: float = 0.0
    stale_kl: float = 0.0
    log_ratio_max: float = 0.0
    clipped: float = 0.0
    num_processed: int = 0
    grad_norms: list[float] = field(default_factory=list[float])

    def add(
        self,
        loss: torch.Tensor,
        stale_kl: torch.Tensor | None,
        terms: Terms,
        num_samples: int,
        *,
        is_first_pass: bool,
    ) -> None:
        """Add a micro-batch with its weighted loss and KL, scalars; ``terms`` [num_samples]."""
        if is_first_pass:
            self.loss += float(loss.detach())
            self.stale_kl += 0.0 if stale_kl is None else float(stale_kl)
        self.num_processed += num_samples
        if terms.clip_fraction is not None:
            self.clipped += float(terms.clip_fraction.sum())
        if terms.log_ratios is not None and not self.grad_norms:
            self.log_ratio_max = max(self.log_ratio_max, float(terms.log_ratios.abs().max()))

    def stats(
        self, ranks: Ranks, kl: float | None, *, is_stale: bool, has_stopped_early: bool
    ) -> UpdateStats:
        """Return the metrics of all ranks together. A collective: all ranks call it.

        Args:
            ranks: The processes.
            kl: This rank's part of the mean KL; None for an objective without likelihood.
            is_stale: Whether the behavior weights are older than those before the update.
            has_stopped_early: Whether the KL bound ended the update.
        """
        audit = self.audit or NOT_AUDITED
        own = _Sent(
            loss=self.loss, kl=kl or 0.0, clipped=self.clipped, num_processed=self.num_processed,
            log_ratio_max=self.log_ratio_max, stale_kl=self.stale_kl, num_audited=audit.count,
            z_mean=audit.z_mean, z_variance=audit.z_variance, off_mask_error=audit.off_mask_error,
            log_ratio_mean=audit.log_ratio_mean, log_ratio_std=audit.log_ratio_std,
        )  # fmt: skip
        message = np.array([*own, *(self.replay or NOT_REPLAYED)], dtype=np.float64)
        table = np.stack(ranks.gather(message))
        of_ranks = _Sent(*table.T[: len(own)])
        replay = ReplayTotals(*table[:, len(own) :].sum(axis=0).tolist())
        audited = of_ranks.num_audited / max(1.0, of_ranks.num_audited.sum())
        num_processed = max(1.0, of_ranks.num_processed.sum())
        has_likelihood = kl is not None
        return UpdateStats(
            loss=float(of_ranks.loss.sum()),
            kl=float(of_ranks.kl.sum()) if has_likelihood else None,
            clip_fraction=float(of_ranks.clipped.sum() / num_processed) if has_likelihood else None,
            grad_norm=sum(self.grad_norms) / max(1, len(self.grad_norms)),
            log_ratio_max=float(of_ranks.log_ratio_max.max()) if has_likelihood else None,
            num_optimizer_steps=len(self.grad_norms),
            lr_share=self.lr_share,
            has_stopped_early=has_stopped_early,
            z_mean=float(audited @ of_ranks.z_mean),
            z_variance=float(audited @ of_ranks.z_variance),
            off_mask_error=float(of_ranks.off_mask_error.max()),
            rollout_log_ratio_mean=max(of_ranks.log_ratio_mean.tolist(), key=abs),
            rollout_log_ratio_std=float(of_ranks.log_ratio_std.max()),
            stale_kl=float(of_ranks.stale_kl.sum()) if is_stale else None,
            num_replayed=int(replay.num_samples) or None,
            effective_samples=replay.effective_share,
            replay_kl=replay.mean_kl,
        )
