"""The update: the only place where training changes weights.

It audits the stored chains of a batch, lets the critic judge its policy steps, and learns from them in epochs
(``pi0.ript.learner.epochs``). ``pi0.ript.learner.minibatches`` names the index spaces.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pi0.policy import Pi0Policy
from pi0.records import Sampling
from pi0.ript.algo.objective import Indices, Objective, Targets, require_finite
from pi0.ript.config.schema import AlgoConfig
from pi0.ript.engine.engine import Engine
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.interfaces import Ranks
from pi0.ript.learner.audit import Audit, audit_transitions
from pi0.ript.learner.critic import Critic
from pi0.ript.learner.epochs import Epochs
from pi0.ript.learner.minibatches import IDLE_SAMPLE, GlobalSamples
from pi0.ript.learner.prefixes import Room
from pi0.ript.learner.scorer import Scorer
from pi0.ript.learner.stats import UpdateStats
from pi0.ript.types import Batch
from pi0.sampler import draw_noise, make_schedule


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
    epochs = Epochs(engine, scorer, objective, targets, algo, samples, ranks, lr_share)

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
        return replace(epochs.run(seed, audit), critic=stats_of_critic)
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
