"""Metrics of an update: what one rank accumulates, and how those of all ranks are joined."""

from dataclasses import dataclass, field

import numpy as np
import torch

from pi0.ript.algo.objective import ReplayTotals, Terms
from pi0.ript.interfaces import Ranks
from pi0.ript.learner.audit import Audit
from pi0.ript.types import UpdateStats

NOT_AUDITED = Audit(
    z_mean=0.0, z_variance=0.0, off_mask_error=0.0, log_ratio_mean=0.0, log_ratio_std=0.0, count=0
)
NOT_REPLAYED = ReplayTotals(0.0, 0.0, 0.0, 0.0, 0.0)


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
        own = (self.loss, kl or 0.0, self.clipped, self.num_processed, self.log_ratio_max)
        own += (audit.count, audit.z_mean, audit.z_variance, audit.off_mask_error, self.stale_kl)
        own += (audit.log_ratio_mean, audit.log_ratio_std, *(self.replay or NOT_REPLAYED))
        table = np.concatenate(ranks.gather(np.array([own], dtype=np.float64)))
        loss, kl_sum, clipped, num_processed, _, count, _, _, _, stale_kl, *_ = table.sum(axis=0)
        replay = ReplayTotals(*table[:, 12:].sum(axis=0).tolist())
        audited = table[:, 5] / max(1.0, count)
        has_likelihood = kl is not None
        return UpdateStats(
            loss=float(loss),
            kl=float(kl_sum) if has_likelihood else None,
            clip_fraction=float(clipped / max(1.0, num_processed)) if has_likelihood else None,
            grad_norm=sum(self.grad_norms) / max(1, len(self.grad_norms)),
            log_ratio_max=float(table[:, 4].max()) if has_likelihood else None,
            num_optimizer_steps=len(self.grad_norms),
            lr_share=self.lr_share,
            has_stopped_early=has_stopped_early,
            z_mean=float(audited @ table[:, 6]),
            z_variance=float(audited @ table[:, 7]),
            off_mask_error=float(table[:, 8].max()),
            rollout_log_ratio_mean=max(table[:, 10].tolist(), key=abs),
            rollout_log_ratio_std=float(table[:, 11].max()),
            stale_kl=float(stale_kl) if is_stale else None,
            num_replayed=int(replay.num_samples) or None,
            effective_samples=replay.effective_share,
            replay_kl=replay.mean_kl,
        )
