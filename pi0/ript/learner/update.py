"""The update: the only place where training changes weights.

Every optimizer step takes one minibatch of samples, cut into micro-batches that fit into memory. Cutting
changes nothing but memory: the loss is a weighted sum divided by the weight of the whole minibatch.
Minibatches are those of all ranks together: each rank computes its samples' part of the gradient, and a rank
without samples takes part with one of weight 0. ``pi0.ript.learner.minibatches`` names the index spaces.
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
from pi0.ript.learner.critic import Critic
from pi0.ript.learner.minibatches import GlobalSamples, Minibatch, cut
from pi0.ript.learner.prefixes import Room
from pi0.ript.learner.scorer import Scorer
from pi0.ript.learner.stats import UpdateMetrics, UpdateStats
from pi0.ript.seeding import derive_seed
from pi0.ript.types import Batch
from pi0.sampler import draw_noise, make_schedule

# Index 0, in whatever space: the sample that a rank without signal computes, with weight 0.
IDLE_SAMPLE: Indices = np.zeros(1, dtype=np.int64)


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

    def exchange(self, values: Sequence[float]) -> list[float]:
        """Add up gradients over ranks and return the sums of ``values``. A collective."""
        ...

    def step(self, lr_share: float) -> float:
        """Take one optimizer step with a share of the learning rate; return the gradient norm before clipping."""
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
    prefix_room: Room | None = None,
    lr_share: float = 1.0,
    behavior_weights: Sequence[Tensor] | None = None,
    critic: Critic | None = None,
    ranks: Ranks = SINGLE_PROCESS,
) -> UpdateStats | None:
    """Improve the policy on a batch of its own policy steps; same inputs give the same bits.

    Args:
        policy: What is trained, in place; switched to eval mode, in which it also acts.
        engine: Holds the trained parameters of ``policy``.
        batch: This rank's samples, replayed ones first; those without signal for the objective are left out,
            unless there is a critic, which follows whole episodes.
        objective: The learning rule; may remember earlier weights from update to update.
        algo: Passes, minibatches and micro-batches.
        sampling: How the chains were drawn.
        seed: Orders the samples; derive it from run seed and step.
        has_frozen_prefix: Prefixes cannot change, so they are computed without gradient and kept.
        prefix_room: What kept prefixes may take, None for what there is; beyond it they are computed when needed.
        lr_share: What of the learning rate is used, in (0, 1]: less where there is less to learn from than wanted.
        behavior_weights: The trained weights that drew the chains, where they are older than the policy's.
        critic: Gives every policy step an advantage of its own, and learns from the batch.
        ranks: The processes that learn together. The update is a collective: all of them call it.

    Returns:
        What happened, as plain floats; None if no sample of any rank has signal.

    Raises:
        FloatingPointError: If a mean, ratio, loss or gradient is not finite, or the stored chains are not
            draws of this policy; raised before the optimizer step that it would have spoiled. Earlier steps of
            the same update have changed weights by then.
    """
    policy.network.eval()
    has_signal = objective.has_signal(batch) if critic is None else batch.weights > 0
    batch_index = np.flatnonzero(has_signal)
    samples = GlobalSamples.gather(
        ranks, batch.groups[batch_index], batch.weights[batch_index], policy.device
    )
    if len(samples) == 0:
        return None
    is_idle = batch_index.size == 0
    batch_index = IDLE_SAMPLE if is_idle else batch_index
    scorer = Scorer(
        policy,
        batch,
        batch_index,
        sampling,
        is_frozen=has_frozen_prefix,
        behavior_weights=behavior_weights,
    )
    # ranks that gather weights in every pass must compute the same passes
    scorer.keep_prefixes(
        algo.micro_batch_size,
        prefix_room or Room.on(policy.device),
        all_or_none=engine.needs_equal_passes,
    )
    stats_of_critic = None
    if critic is not None:
        own = batch_index[:0] if is_idle else batch_index
        features = scorer.features(algo.micro_batch_size)[: len(own)]
        batch, stats_of_critic = critic.judge(batch, own, features, samples, ranks)
    global_index = IDLE_SAMPLE if is_idle else samples.global_index_of_own()
    weights = samples.weights[global_index]
    targets = Targets.of(
        batch, batch_index, torch.zeros_like(weights) if is_idle else weights, global_index
    )
    learner = _Learner(engine, scorer, objective, targets, algo, samples, ranks, lr_share)

    def audit() -> Audit | None:
        # replayed samples were drawn by other weights
        first, last = np.searchsorted(batch_index, batch.num_replayed), len(batch_index) - 1
        if is_idle or first > last:
            return None
        num_audited = min(algo.micro_batch_size, last + 1 - int(first))
        # evenly spaced, so that all groups are audited alike
        own_index = np.linspace(first, last, num_audited).astype(np.int64)
        seeds = batch.seeds[batch_index[own_index]]
        return _audit(policy, scorer, targets, sampling, own_index, seeds)

    try:
        return replace(learner.run(seed, audit), critic=stats_of_critic)
    except FloatingPointError:
        engine.discard()
        raise


@torch.no_grad()
def _audit(
    policy: Pi0Policy,
    scorer: Scorer,
    targets: Targets,
    sampling: Sampling,
    own_index: Indices,
    seeds: NDArray[np.int64],
) -> Audit:
    """Return how well the stored chains of some samples agree with the behavior weights."""
    with scorer.with_behavior_weights():
        velocity = scorer.chain_velocities(own_index)
    require_finite(velocity, "velocities of the current policy")
    index = torch.from_numpy(own_index).to(scorer.chains.device)
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
