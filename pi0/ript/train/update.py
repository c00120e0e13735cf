"""The update: the only place where practice changes weights.

Every optimizer step sees one minibatch of rows, cut into micro-batches that fit into memory. Cutting
changes nothing but memory: the loss is a weighted sum divided by the weight of the whole minibatch.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pi0.cache import PrefixCache, join_caches
from pi0.policy import Pi0Policy
from pi0.records import Sampling
from pi0.ript.algo.flow_sde import clip_fraction, clipped_surrogate, gaussian_kl, log_ratio
from pi0.ript.config.schema import AlgoConfig
from pi0.ript.seeding import derive_seed
from pi0.ript.types import Batch, UpdateStats

Rows = NDArray[np.int64]

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
    algo: AlgoConfig,
    sampling: Sampling,
    seed: int,
    *,
    has_frozen_prefix: bool,
    prefix_budget: int = PREFIX_BUDGET,
) -> UpdateStats:
    """Improve the policy on a batch of its own decisions; same inputs give the same bits.

    Args:
        policy: What is trained, in place; switched to eval mode, in which it also acted.
        engine: Holds the trained parameters of ``policy``.
        batch: Rows to learn from; rows of advantage or weight 0 are left out, they teach nothing.
        algo: The learning rule.
        sampling: How the chains were drawn.
        seed: Orders the rows; derive it from run seed and step.
        has_frozen_prefix: Prefixes cannot change, so they are computed without gradient and kept.
        prefix_budget: Bytes that kept prefixes may take; beyond it they are computed when needed.

    Returns:
        What happened, as plain floats; all 0 if no row teaches anything.

    Raises:
        FloatingPointError: If a mean, ratio, loss or gradient is not finite; raised before the
            optimizer step it would have spoiled.
    """
    policy.network.eval()
    rows = np.flatnonzero((batch.advantages != 0) & (batch.weights > 0))
    if rows.size == 0:
        return _Tally().stats(kl=0.0, has_stopped_early=False)
    scorer = _Scorer(policy, batch, rows, sampling, is_frozen=has_frozen_prefix)
    scorer.keep_prefixes(algo.micro_batch_size, prefix_budget)
    learner = _Learner(engine, scorer, _Targets.of(batch, rows, policy.device), algo)
    try:
        return learner.run(seed)
    except FloatingPointError:
        engine.discard()
        raise


class _Scorer:
    """Transition means of chosen rows. Old and new means both come from here: one forward function."""

    def __init__(
        self, policy: Pi0Policy, batch: Batch, rows: Rows, sampling: Sampling, *, is_frozen: bool
    ) -> None:
        self._policy = policy
        self._sampling = sampling
        self._inputs = policy.encode(
            [batch.observations[row] for row in rows], [batch.tasks[row] for row in rows]
        )
        self._is_frozen = is_frozen
        self._kept: PrefixCache | None = None
        self.stds = policy.scored_stds(sampling)
        self.chains = torch.from_numpy(batch.chains[rows]).to(policy.device)

    def keep_prefixes(self, micro_batch_size: int, budget: int) -> None:
        """Compute the prefixes of all rows now, if they cannot change and fit into ``budget`` bytes."""
        if not self._is_frozen:
            return
        pieces = _split(np.arange(len(self._inputs)), micro_batch_size)
        first = self._read(pieces[0])
        if first.num_bytes / len(pieces[0]) * len(self._inputs) <= budget:
            self._kept = join_caches([first, *(self._read(piece) for piece in pieces[1:])])

    def means(self, rows: Rows) -> Tensor:
        """Return transition means, float32 [b, S, h, 7], with gradient where enabled."""
        index = torch.from_numpy(rows)
        on_device = index.to(self.chains.device)
        prefix = self._read(rows) if self._kept is None else self._kept.rows(on_device)
        inputs, chains = self._inputs.rows(index), self.chains[on_device]
        return self._policy.transition_means(prefix, inputs, chains, self._sampling)

    def _read(self, rows: Rows) -> PrefixCache:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._is_frozen):
            return self._policy.prefix(self._inputs.rows(torch.from_numpy(rows)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Targets:
    """Advantages and loss shares of the rows, float32 [n]; shares sum to 1."""

    advantages: Tensor
    weights: Tensor

    @classmethod
    def of(cls, batch: Batch, rows: Rows, device: torch.device) -> "_Targets":
        weights = torch.from_numpy(batch.weights[rows]).to(device)
        advantages = torch.from_numpy(batch.advantages[rows]).to(device)
        return cls(advantages=advantages, weights=weights / weights.sum())


@dataclass(slots=True)
class _Tally:
    """Figures collected along an update."""

    loss: float = 0.0
    log_ratio_max: float = 0.0
    clipped: float = 0.0
    rows_seen: int = 0
    grad_norms: list[float] = field(default_factory=list[float])

    def stats(self, kl: float, *, has_stopped_early: bool) -> UpdateStats:
        return UpdateStats(
            loss=self.loss,
            kl=kl,
            clip_fraction=self.clipped / max(1, self.rows_seen),
            grad_norm=sum(self.grad_norms) / max(1, len(self.grad_norms)),
            log_ratio_max=self.log_ratio_max,
            num_optimizer_steps=len(self.grad_norms),
            has_stopped_early=has_stopped_early,
        )


class _Learner:
    """Walks epochs and minibatches."""

    def __init__(
        self, engine: Engine, scorer: _Scorer, targets: _Targets, algo: AlgoConfig
    ) -> None:
        self._engine = engine
        self._scorer = scorer
        self._targets = targets
        self._algo = algo
        self._tally = _Tally()

    def run(self, seed: int) -> UpdateStats:
        first_plan = self._plan(seed, epoch=0)
        self._mean_old = self._all_means(first_plan)
        has_stopped_early = False
        for epoch in range(self._algo.num_epochs):
            plan = first_plan if epoch == 0 else self._plan(seed, epoch)
            has_stopped_early = not all(self._learn(pieces, epoch) for pieces in plan)
            if has_stopped_early:
                break
        kl = self._final_kl(first_plan)
        return self._tally.stats(kl, has_stopped_early=has_stopped_early)

    def _plan(self, seed: int, epoch: int) -> list[list[Rows]]:
        """Return the minibatches of an epoch, each cut into micro-batches of row numbers."""
        generator = np.random.default_rng(derive_seed(seed, "update", epoch))
        order = generator.permutation(len(self._targets.weights))
        parts = np.array_split(order, min(self._algo.num_minibatches, len(order)))
        return [_split(part, self._algo.micro_batch_size) for part in parts]

    @torch.no_grad()
    def _all_means(self, plan: list[list[Rows]]) -> Tensor:
        """Return the means of all rows, computed in the micro-batches of the first pass.

        The same rows in the same call give the same bits, so that the first ratios are exactly 1.
        """
        pieces = [piece for minibatch in plan for piece in minibatch]
        means = torch.cat([self._scorer.means(piece) for piece in pieces])
        _require_finite(means, "transition means of the current policy")
        ordered = torch.empty_like(means)
        ordered[torch.from_numpy(np.concatenate(pieces)).to(means.device)] = means
        return ordered

    def _learn(self, pieces: list[Rows], epoch: int) -> bool:
        """Take one optimizer step; return False, without a step, if the policy has moved too far."""
        share = float(self._targets.weights[np.concatenate(pieces)].sum())
        kl = sum(self._accumulate(piece, share, epoch) for piece in pieces)
        if kl > self._algo.kl_stop:
            self._engine.discard()
            return False
        self._tally.grad_norms.append(self._engine.step())
        return True

    def _accumulate(self, piece: Rows, share: float, epoch: int) -> float:
        """Add the gradient of a micro-batch; return its part of the minibatch's mean KL."""
        algo, tally = self._algo, self._tally
        weights = self._targets.weights[piece]
        log_ratios, kl = self._compare(piece)
        surrogate = clipped_surrogate(
            log_ratios,
            self._targets.advantages[piece],
            algo.ppo_clip_range,
            algo.ppo_clip_high,
            algo.dual_clip,
        )
        loss = (weights * surrogate.mean(dim=1)).sum()
        _require_finite(loss, "loss")
        self._engine.backward(loss / share)
        clipped = clip_fraction(log_ratios, algo.ppo_clip_range, algo.ppo_clip_high)
        tally.clipped += float(clipped.sum())
        tally.rows_seen += len(piece)
        if epoch == 0:
            tally.loss += float(loss.detach())
        if not tally.grad_norms:
            tally.log_ratio_max = max(tally.log_ratio_max, float(log_ratios.detach().abs().max()))
        return float((weights * kl).sum()) / share

    def _compare(self, piece: Rows) -> tuple[Tensor, Tensor]:
        """Return log ratios [b, S] with gradient and the mean KL of every row [b]."""
        mean, mean_old = self._scorer.means(piece), self._mean_old[piece]
        num_executed, num_dims = mean.shape[-2:]
        x_next = self._scorer.chains[piece][:, 1:, :num_executed, :num_dims]
        log_ratios = log_ratio(mean, mean_old, x_next, self._scorer.stds)
        _require_finite(log_ratios, "log ratios")
        kl = gaussian_kl(mean.detach(), mean_old, self._scorer.stds)
        return log_ratios, kl.mean(dim=1)

    @torch.no_grad()
    def _final_kl(self, plan: list[list[Rows]]) -> float:
        pieces = [piece for minibatch in plan for piece in minibatch]
        parts = [(self._targets.weights[piece] * self._compare(piece)[1]).sum() for piece in pieces]
        return float(torch.stack(parts).sum())


def _split(rows: Rows, size: int) -> list[Rows]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _require_finite(values: Tensor, what: str) -> None:
    if not bool(torch.isfinite(values.detach()).all()):
        raise FloatingPointError(
            f"{what} not finite: weights were left as they were; lower algo.lr or check the checkpoint"
        )
