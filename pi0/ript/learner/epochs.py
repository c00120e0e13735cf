"""Epochs of minibatches of micro-batches: where gradients are accumulated and optimizer steps taken.

Every optimizer step takes one minibatch of samples, cut into micro-batches that fit into memory. Cutting
changes nothing but memory: the loss is a weighted sum divided by the weight of the whole minibatch.
Minibatches are those of all ranks together: each rank computes its samples' part of the gradient, and a rank
without samples takes part with one of weight 0. ``pi0.ript.learner.minibatches`` names the index spaces.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pi0.ript.algo.objective import Indices, Objective, Targets, require_finite
from pi0.ript.config.schema import AlgoConfig
from pi0.ript.engine.engine import Engine
from pi0.ript.interfaces import Ranks
from pi0.ript.learner.audit import Audit, require_unit_ratios
from pi0.ript.learner.minibatches import IDLE_SAMPLE, GlobalSamples, Minibatch, cut
from pi0.ript.learner.scorer import Scorer
from pi0.ript.learner.stats import UpdateMetrics, UpdateStats
from pi0.ript.seeding import derive_seed


class Epochs:
    """Passes of one update over this rank's samples, each cut into minibatches and micro-batches.

    Args:
        engine: Holds what is trained.
        scorer: Scores this rank's samples with signal.
        objective: The learning rule.
        targets: What the samples are to be learned for.
        algo: Passes, minibatches and micro-batches.
        samples: Those of all ranks.
        ranks: The processes that learn together.
        lr_share: What of the learning rate is used.
    """

    def __init__(
        self,
        engine: Engine,
        scorer: Scorer,
        objective: Objective,
        targets: Targets,
        algo: AlgoConfig,
        samples: GlobalSamples,
        ranks: Ranks,
        lr_share: float,
    ) -> None:
        self._engine = engine
        self._scorer = scorer
        self._objective = objective
        self._targets = targets
        self._algo = algo
        self._samples = samples
        self._ranks = ranks
        self._lr_share = lr_share
        self._metrics = UpdateMetrics(lr_share=lr_share)
        self._failure: FloatingPointError | None = None

    def run(self, seed: int, audit: Callable[[], Audit | None]) -> UpdateStats:
        """Learn from the samples until the passes are done or the policy has moved too far. A collective.

        Args:
            seed: Orders the samples.
            audit: Called once before the first optimizer step; None where this rank has nothing to audit.

        Raises:
            FloatingPointError: As in ``update``; an audit that fails counts too.
        """
        first_plan = self._plan(seed, epoch=0)
        first_micro_batches = [
            micro_batch for minibatch in first_plan for micro_batch in minibatch.micro_batches
        ]
        first_micro_batches = first_micro_batches or [IDLE_SAMPLE]
        try:
            self._metrics.audit = audit()
            self._metrics.replay = self._objective.begin(
                self._scorer, self._targets, first_micro_batches, seed
            )
        except FloatingPointError as error:
            self._failure = error
        with self._engine.learning():
            has_stopped_early = not all(
                self._learn(minibatch, epoch)
                for epoch in range(self._algo.num_epochs)
                for minibatch in (first_plan if epoch == 0 else self._plan(seed, epoch))
            )
        kl = self._final_kl(first_micro_batches)
        self._objective.finish()
        is_stale = self._scorer.behavior_weights is not None
        return self._metrics.stats(
            self._ranks, kl, is_stale=is_stale, has_stopped_early=has_stopped_early
        )

    def _plan(self, seed: int, epoch: int) -> list[Minibatch]:
        """Return the minibatches of an epoch."""
        generator = np.random.default_rng(derive_seed(seed, "update", epoch))
        order = generator.permutation(len(self._samples))
        return cut(self._samples, order, self._algo.num_minibatches, self._algo.micro_batch_size)

    def _learn(self, minibatch: Minibatch, epoch: int) -> bool:
        """Take one optimizer step; return False, without a step, if the policy has moved too far."""
        kl, failure = 0.0, self._failure
        if failure is None:
            try:
                kl = self._accumulate(minibatch, epoch)
            except FloatingPointError as error:
                failure = error
        if failure is not None and self._engine.needs_equal_passes:
            raise failure  # the others wait inside a pass, in which they receive the reason
        kl, num_failed = self._engine.exchange([kl, float(failure is not None)])
        if num_failed:
            reasons = self._ranks.gather_text(str(failure or ""))
            raise failure or FloatingPointError(next(reason for reason in reasons if reason))
        if self._objective.kl_stop is not None and kl > self._objective.kl_stop:
            self._engine.discard()
            return False
        self._metrics.grad_norms.append(self._engine.step(self._lr_share))
        return True

    def _accumulate(self, minibatch: Minibatch, epoch: int) -> float:
        """Add this rank's part of the gradient; return its part of the minibatch's mean KL."""
        minibatch_weight = float(self._samples.weights[minibatch.global_index].sum())
        kl = 0.0
        for micro_batch in minibatch.micro_batches:
            kl += self._add_micro_batch(micro_batch, minibatch_weight, epoch)
        if self._engine.needs_equal_passes:
            for _ in range(minibatch.num_passes - len(minibatch.micro_batches)):
                self._engine.backward(0.0 * self._objective.terms(IDLE_SAMPLE, epoch).loss.sum())
        if not self._metrics.grad_norms:
            require_unit_ratios(self._metrics.log_ratio_max)
        return kl

    def _add_micro_batch(self, micro_batch: Indices, minibatch_weight: float, epoch: int) -> float:
        weights = self._targets.weights[micro_batch]
        terms = self._objective.terms(micro_batch, epoch)
        loss = (weights * terms.loss).sum()
        require_finite(loss, "loss")
        self._engine.backward(loss / minibatch_weight)
        stale_kl = None if terms.stale_kl is None else (weights * terms.stale_kl).sum()
        self._metrics.add(loss, stale_kl, terms, len(micro_batch), is_first_pass=epoch == 0)
        return 0.0 if terms.kl is None else float((weights * terms.kl).sum()) / minibatch_weight

    @torch.no_grad()
    def _final_kl(self, micro_batches: list[Indices]) -> float | None:
        """Return this rank's part of the mean KL between the policies before and after the update."""
        parts: list[Tensor] = []
        for micro_batch in micro_batches:
            kl = self._objective.terms(micro_batch, 0).kl
            if kl is None:
                return None
            parts.append((self._targets.weights[micro_batch] * kl).sum())
        return float(torch.stack(parts).sum())
