"""The update: the only place where practice changes weights.

Every optimizer step sees one minibatch of rows, cut into micro-batches that fit into memory. Cutting
changes nothing but memory: the loss is a weighted sum divided by the weight of the whole minibatch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pi0.policy import Pi0Policy
from pi0.records import Sampling
from pi0.ript.algo.objective import Objective, Rows, Targets, Terms, require_finite
from pi0.ript.config.schema import AlgoConfig
from pi0.ript.seeding import derive_seed
from pi0.ript.train.audit import Audit, audit_transitions, require_unit_ratios
from pi0.ript.train.scorer import Scorer, split
from pi0.ript.types import Batch, UpdateStats
from pi0.sampler import make_schedule

# The tiny pi0 needs 0.1 MB per row, the real one 10 to 15 MB.
PREFIX_BUDGET = 16 * 2**30


class Engine(Protocol):
    """What an update needs of an engine; ``pi0.ript.engine`` has those for one and many devices."""

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of a scalar loss."""
        ...

    def step(self) -> float:
        """Take one optimizer step and return the gradient norm before clipping."""
        ...

    def discard(self) -> None:
        """Forget the accumulated gradient."""
        ...


def update(
    policy: Pi0Policy,
    engine: Engine,
    batch: Batch,
    objective: Objective,
    algo: AlgoConfig,
    sampling: Sampling,
    seed: int,
    *,
    has_frozen_prefix: bool,
    prefix_budget: int = PREFIX_BUDGET,
    acted_with: Sequence[Tensor] | None = None,
) -> UpdateStats:
    """Improve the policy on a batch of its own decisions; same inputs give the same bits.

    Args:
        policy: What is trained, in place; switched to eval mode, in which it also acted.
        engine: Holds the trained parameters of ``policy``.
        batch: Rows to learn from; rows that teach the objective nothing are left out.
        objective: The learning rule; may remember earlier weights from update to update.
        algo: Passes, minibatches and micro-batches.
        sampling: How the chains were drawn.
        seed: Orders the rows; derive it from run seed and step.
        has_frozen_prefix: Prefixes cannot change, so they are computed without gradient and kept.
        prefix_budget: Bytes that kept prefixes may take; beyond it they are computed when needed.
        acted_with: The trained weights that drew the chains, where they are older than the policy's.

    Returns:
        What happened, as plain floats; all 0 if no row teaches anything.

    Raises:
        FloatingPointError: If a mean, ratio, loss or gradient is not finite, or the stored chains are not
            draws of this policy; raised before the optimizer step it would have spoiled.
    """
    policy.network.eval()
    rows = np.flatnonzero(objective.teaches(batch))
    if rows.size == 0:
        return _Tally().stats(kl=0.0, has_stopped_early=False)
    scorer = Scorer(
        policy, batch, rows, sampling, is_frozen=has_frozen_prefix, acted_with=acted_with
    )
    scorer.keep_prefixes(algo.micro_batch_size, prefix_budget)
    targets = Targets.of(batch, rows, policy.device)
    try:
        learner = _Learner(engine, scorer, objective, targets, algo)
        audit = _audit(policy, scorer, targets, sampling, algo.micro_batch_size)
        return learner.run(seed, audit)
    except FloatingPointError:
        engine.discard()
        raise


@torch.no_grad()
def _audit(
    policy: Pi0Policy, scorer: Scorer, targets: Targets, sampling: Sampling, num_rows: int
) -> Audit:
    """Return how well stored chains of up to ``num_rows`` rows agree with the policy that acted."""
    rows = np.arange(min(num_rows, len(scorer)))
    with scorer.as_it_acted():
        velocity = scorer.chain_velocities(rows)
    require_finite(velocity, "velocities of the current policy")
    audit = audit_transitions(
        scorer.chains[: len(rows)],
        velocity,
        targets.is_scored[: len(rows)],
        policy.card.execute_steps,
        make_schedule(sampling.num_steps, sampling.noise_scale),
    )
    audit.require_sound(policy.network.compute_dtype)
    return audit


@dataclass(slots=True)
class _Tally:
    """Figures collected along an update."""

    audit: Audit | None = None
    loss: float = 0.0
    stale_kl: float = 0.0
    log_ratio_max: float = 0.0
    clipped: float = 0.0
    rows_seen: int = 0
    grad_norms: list[float] = field(default_factory=list[float])

    def stats(self, kl: float, *, has_stopped_early: bool) -> UpdateStats:
        audit = self.audit
        return UpdateStats(
            loss=self.loss,
            kl=kl,
            clip_fraction=self.clipped / max(1, self.rows_seen),
            grad_norm=sum(self.grad_norms) / max(1, len(self.grad_norms)),
            log_ratio_max=self.log_ratio_max,
            num_optimizer_steps=len(self.grad_norms),
            has_stopped_early=has_stopped_early,
            z_mean=audit.z_mean if audit else 0.0,
            z_variance=audit.z_variance if audit else 1.0,
            off_mask_error=audit.off_mask_error if audit else 0.0,
            stale_kl=self.stale_kl,
        )


class _Learner:
    """Walks epochs and minibatches."""

    def __init__(
        self,
        engine: Engine,
        scorer: Scorer,
        objective: Objective,
        targets: Targets,
        algo: AlgoConfig,
    ) -> None:
        self._engine = engine
        self._scorer = scorer
        self._objective = objective
        self._targets = targets
        self._algo = algo
        self._tally = _Tally()

    def run(self, seed: int, audit: Audit) -> UpdateStats:
        self._tally.audit = audit
        first_plan = self._plan(seed, epoch=0)
        first_pieces = [piece for minibatch in first_plan for piece in minibatch]
        self._objective.begin(self._scorer, self._targets, first_pieces, seed)
        has_stopped_early = False
        for epoch in range(self._algo.num_epochs):
            plan = first_plan if epoch == 0 else self._plan(seed, epoch)
            has_stopped_early = not all(self._learn(pieces, epoch) for pieces in plan)
            if has_stopped_early:
                break
        kl = self._final_kl(first_pieces)
        self._objective.finish()
        return self._tally.stats(kl, has_stopped_early=has_stopped_early)

    def _plan(self, seed: int, epoch: int) -> list[list[Rows]]:
        """Return the minibatches of an epoch, each cut into micro-batches of row numbers."""
        generator = np.random.default_rng(derive_seed(seed, "update", epoch))
        order = generator.permutation(len(self._targets.weights))
        parts = np.array_split(order, min(self._algo.num_minibatches, len(order)))
        return [split(part, self._algo.micro_batch_size) for part in parts]

    def _learn(self, pieces: list[Rows], epoch: int) -> bool:
        """Take one optimizer step; return False, without a step, if the policy has moved too far."""
        share = float(self._targets.weights[np.concatenate(pieces)].sum())
        kl = sum(self._accumulate(piece, share, epoch) for piece in pieces)
        if not self._tally.grad_norms:
            require_unit_ratios(self._tally.log_ratio_max)
        if self._objective.kl_stop is not None and kl > self._objective.kl_stop:
            self._engine.discard()
            return False
        self._tally.grad_norms.append(self._engine.step())
        return True

    def _accumulate(self, piece: Rows, share: float, epoch: int) -> float:
        """Add the gradient of a micro-batch; return its part of the minibatch's mean KL."""
        weights = self._targets.weights[piece]
        terms = self._objective.terms(piece, epoch)
        loss = (weights * terms.loss).sum()
        require_finite(loss, "loss")
        self._engine.backward(loss / share)
        if epoch == 0:
            self._tally.loss += float(loss.detach())
            self._tally.stale_kl += (
                0.0 if terms.stale_kl is None else float((weights * terms.stale_kl).sum())
            )
        self._count(terms, len(piece))
        return 0.0 if terms.kl is None else float((weights * terms.kl).sum()) / share

    def _count(self, terms: Terms, num_rows: int) -> None:
        tally = self._tally
        tally.rows_seen += num_rows
        if terms.clip_fraction is not None:
            tally.clipped += float(terms.clip_fraction.sum())
        if terms.log_ratios is not None and not tally.grad_norms:
            tally.log_ratio_max = max(tally.log_ratio_max, float(terms.log_ratios.abs().max()))

    @torch.no_grad()
    def _final_kl(self, pieces: list[Rows]) -> float:
        """Return the mean KL of all rows between the policy before and after the update."""
        parts: list[Tensor] = []
        for piece in pieces:
            kl = self._objective.terms(piece, 0).kl
            if kl is None:
                return 0.0
            parts.append((self._targets.weights[piece] * kl).sum())
        return float(torch.stack(parts).sum())
