"""The update: the only place where practice changes weights.

Every optimizer step sees one minibatch of rows, cut into micro-batches that fit into memory. Cutting
changes nothing but memory: the loss is a weighted sum divided by the weight of the whole minibatch.
Minibatches are those of all ranks together: each rank computes its rows' part of the gradient, and a rank
without rows takes part with a row of weight 0.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pi0.policy import Pi0Policy
from pi0.records import Sampling
from pi0.ript.algo.objective import Indices, Objective, Targets, require_finite
from pi0.ript.config.schema import AlgoConfig
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.engine.single import EngineState
from pi0.ript.interfaces import Ranks
from pi0.ript.learner.audit import Audit, audit_transitions, require_unit_ratios
from pi0.ript.learner.minibatches import Minibatch, Share, cut
from pi0.ript.learner.scorer import Scorer
from pi0.ript.learner.stats import Figures
from pi0.ript.seeding import derive_seed
from pi0.ript.types import Batch, UpdateStats
from pi0.sampler import draw_noise, make_schedule

IDLE_SAMPLE: Indices = np.zeros(1, dtype=np.int64)

# The tiny pi0 needs 0.1 MB per row, the real one 10 to 15 MB.
PREFIX_BUDGET = 16 * 2**30


class Engine(Protocol):
    """What an update needs of an engine; ``pi0.ript.engine`` has those for one and many devices."""

    @property
    def needs_equal_passes(self) -> bool:
        """Return whether every rank must run as many micro-batches as the busiest one."""
        ...

    def learning(self) -> AbstractContextManager[None]:
        """Return the block in which gradients are computed; outside of it weights are whole."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of this rank's part of a loss."""
        ...

    def exchange(self, figures: Sequence[float]) -> list[float]:
        """Add up gradients over ranks and return the sums of the figures; all ranks meet here."""
        ...

    def step(self) -> float:
        """Take one optimizer step and return the gradient norm before clipping."""
        ...

    def discard(self) -> None:
        """Forget the accumulated gradient."""
        ...

    def state(self) -> EngineState:
        """Return what a checkpoint holds of it."""
        ...

    def load_state(self, state: EngineState) -> None:
        """Continue from a stored state."""
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
    behavior_weights: Sequence[Tensor] | None = None,
    ranks: Ranks = SINGLE_PROCESS,
) -> UpdateStats | None:
    """Improve the policy on a batch of its own decisions; same inputs give the same bits.

    Args:
        policy: What is trained, in place; switched to eval mode, in which it also acted.
        engine: Holds the trained parameters of ``policy``.
        batch: This rank's rows; those that teach the objective nothing are left out.
        objective: The learning rule; may remember earlier weights from update to update.
        algo: Passes, minibatches and micro-batches.
        sampling: How the chains were drawn.
        seed: Orders the rows; derive it from run seed and step.
        has_frozen_prefix: Prefixes cannot change, so they are computed without gradient and kept.
        prefix_budget: Bytes that kept prefixes may take; beyond it they are computed when needed.
        behavior_weights: The trained weights that drew the chains, where they are older than the policy's.
        ranks: The processes that learn together; all of them call this.

    Returns:
        What happened, as plain floats; None if no row of any rank teaches anything.

    Raises:
        FloatingPointError: If a mean, ratio, loss or gradient is not finite, or the stored chains are not
            draws of this policy; raised before the optimizer step it would have spoiled. Earlier steps of
            the same update have changed weights by then.
    """
    policy.network.eval()
    with_signal = np.flatnonzero(objective.has_signal(batch))
    share = Share.of(ranks, batch.groups[with_signal], batch.weights[with_signal])
    if len(share) == 0:
        return None
    samples = with_signal if with_signal.size else IDLE_SAMPLE
    scorer = Scorer(
        policy,
        batch,
        samples,
        sampling,
        is_frozen=has_frozen_prefix,
        behavior_weights=behavior_weights,
    )
    scorer.keep_prefixes(algo.micro_batch_size, prefix_budget)
    all_weights = torch.as_tensor(share.weights).to(policy.device)
    numbers = share.own_numbers if with_signal.size else IDLE_SAMPLE
    targets = Targets.of(batch, samples, policy.device, all_weights.sum(), numbers)
    if not with_signal.size:
        targets = replace(targets, weights=torch.zeros_like(targets.weights))
    learner = _Learner(engine, scorer, objective, targets, algo, share, ranks)

    def audit() -> Audit | None:
        if not with_signal.size:
            return None
        num_audited = min(algo.micro_batch_size, len(samples))
        chosen = np.linspace(0, len(samples) - 1, num_audited).astype(
            np.int64
        )  # of all groups alike
        return _audit(policy, scorer, targets, sampling, chosen, batch.seeds[samples[chosen]])

    try:
        return learner.run(seed, audit)
    except FloatingPointError:
        engine.discard()
        raise


@torch.no_grad()
def _audit(
    policy: Pi0Policy,
    scorer: Scorer,
    targets: Targets,
    sampling: Sampling,
    samples: Indices,
    seeds: NDArray[np.int64],
) -> Audit:
    """Return how well the stored chains of some rows agree with the policy that acted."""
    with scorer.with_behavior_weights():
        velocity = scorer.chain_velocities(samples)
    require_finite(velocity, "velocities of the current policy")
    index = torch.from_numpy(samples).to(scorer.chains.device)
    chains = scorer.chains[index]
    noise, _ = draw_noise(seeds.tolist(), sampling.num_steps, *chains.shape[2:])
    audit = audit_transitions(
        chains,
        velocity,
        targets.is_scored[index],
        noise.to(chains.device),
        policy.card.execute_steps,
        make_schedule(sampling.num_steps, sampling.noise_scale),
    )
    audit.require_sound(policy.network.compute_dtype)
    return audit


class _Learner:
    """Walks epochs and minibatches."""

    def __init__(
        self,
        engine: Engine,
        scorer: Scorer,
        objective: Objective,
        targets: Targets,
        algo: AlgoConfig,
        share: Share,
        ranks: Ranks,
    ) -> None:
        self._engine = engine
        self._scorer = scorer
        self._objective = objective
        self._targets = targets
        self._algo = algo
        self._share = share
        self._ranks = ranks
        weights = torch.as_tensor(share.weights).to(targets.weights.device)
        self._all_weights = weights / weights.sum()
        self._figures = Figures()
        self._trouble: FloatingPointError | None = None

    def run(self, seed: int, audit: Callable[[], Audit | None]) -> UpdateStats:
        first_plan = self._plan(seed, epoch=0)
        first_micro_batches = [
            micro_batch for minibatch in first_plan for micro_batch in minibatch.micro_batches
        ]
        first_micro_batches = first_micro_batches or [IDLE_SAMPLE]
        try:
            self._figures.audit = audit()
            self._objective.begin(self._scorer, self._targets, first_micro_batches, seed)
        except FloatingPointError as error:
            self._trouble = error
        with self._engine.learning():
            has_stopped_early = not all(
                self._learn(minibatch, epoch)
                for epoch in range(self._algo.num_epochs)
                for minibatch in (first_plan if epoch == 0 else self._plan(seed, epoch))
            )
        kl = self._final_kl(first_micro_batches)
        self._objective.finish()
        is_stale = self._scorer.behavior_weights is not None
        return self._figures.stats(
            self._ranks, kl, is_stale=is_stale, has_stopped_early=has_stopped_early
        )

    def _plan(self, seed: int, epoch: int) -> list[Minibatch]:
        """Return the minibatches of an epoch."""
        generator = np.random.default_rng(derive_seed(seed, "update", epoch))
        order = generator.permutation(len(self._share))
        return cut(self._share, order, self._algo.num_minibatches, self._algo.micro_batch_size)

    def _learn(self, minibatch: Minibatch, epoch: int) -> bool:
        """Take one optimizer step; return False, without a step, if the policy has moved too far."""
        kl, trouble = 0.0, self._trouble
        if trouble is None:
            try:
                kl = self._accumulate(minibatch, epoch)
            except FloatingPointError as error:
                trouble = error
        if trouble is not None and self._engine.needs_equal_passes:
            raise trouble  # the others wait inside a pass and will be told why it never comes
        kl, num_troubled = self._engine.exchange([kl, float(trouble is not None)])
        if num_troubled:
            reasons = self._ranks.gather_text(str(trouble or ""))
            raise trouble or FloatingPointError(next(reason for reason in reasons if reason))
        if self._objective.kl_stop is not None and kl > self._objective.kl_stop:
            self._engine.discard()
            return False
        self._figures.grad_norms.append(self._engine.step())
        return True

    def _accumulate(self, minibatch: Minibatch, epoch: int) -> float:
        """Add our part of the gradient; return our part of the minibatch's mean KL."""
        share = float(self._all_weights[minibatch.samples].sum())
        kl = 0.0
        for micro_batch in minibatch.micro_batches:
            kl += self._add_micro_batch(micro_batch, share, epoch)
        if self._engine.needs_equal_passes:
            for _ in range(minibatch.num_passes - len(minibatch.micro_batches)):
                self._engine.backward(0.0 * self._objective.terms(IDLE_SAMPLE, epoch).loss.sum())
        if not self._figures.grad_norms:
            require_unit_ratios(self._figures.log_ratio_max)
        return kl

    def _add_micro_batch(self, micro_batch: Indices, share: float, epoch: int) -> float:
        weights = self._targets.weights[micro_batch]
        terms = self._objective.terms(micro_batch, epoch)
        loss = (weights * terms.loss).sum()
        require_finite(loss, "loss")
        self._engine.backward(loss / share)
        stale_kl = None if terms.stale_kl is None else (weights * terms.stale_kl).sum()
        self._figures.add(loss, stale_kl, terms, len(micro_batch), is_first_pass=epoch == 0)
        return 0.0 if terms.kl is None else float((weights * terms.kl).sum()) / share

    @torch.no_grad()
    def _final_kl(self, micro_batches: list[Indices]) -> float | None:
        """Return our part of the mean KL of all rows between the policies before and after the update."""
        parts: list[Tensor] = []
        for micro_batch in micro_batches:
            kl = self._objective.terms(micro_batch, 0).kl
            if kl is None:
                return None
            parts.append((self._targets.weights[micro_batch] * kl).sum())
        return float(torch.stack(parts).sum())
