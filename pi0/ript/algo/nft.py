"""Centered DiffusionNFT: learn from good and bad action chunks without likelihoods.

Two implicit policies stand on either side of a frozen one, ``v+- = v_old +- beta * (v - v_old)``. An action
chunk of optimality r pulls v+ towards itself with weight r and v- with weight 1 - r, so that a bad one pushes
the policy away by reflection, which is bounded. Leave-one-out advantages give every group a mean
optimality of exactly 1/2 over its episodes where none is clipped; without that the frozen policy's own error
would be amplified.

Source: DiffusionNFT, arXiv 2509.16117. Shape legend: b samples, R draws per sample, h executed actions.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pi0.ript.algo.flow_matching import FlowMatching, squared_error
from pi0.ript.algo.objective import Indices, Model, Targets, Terms, by_sample
from pi0.ript.algo.reference import Snapshot
from pi0.ript.config.algo import AlgoConfig
from pi0.ript.types import Batch

_OLD = "old"


def optimality(advantage: Tensor, max_advantage: float) -> Tensor:
    """Return r in [0, 1]: 1/2 for an average rollout; any shape."""
    return 0.5 + 0.5 * (advantage / max_advantage).clamp(-1.0, 1.0)


def bounded_drift(drift: Tensor, bound: float) -> Tensor:
    """Return velocity changes [..., h, 7] scaled down to a root mean square of at most ``bound``."""
    size = drift.detach().square().mean(dim=(-2, -1), keepdim=True).sqrt()
    return drift * (bound / size.clamp(min=bound))


def nft_loss(
    velocity: Tensor,
    velocity_old: Tensor,
    target: Tensor,
    optimality: Tensor,
    beta: float,
    max_drift: float,
    is_executed: Tensor | None = None,
) -> Tensor:
    """Return the loss of every draw, [b, R].

    Args:
        velocity: [b, R, h, 7], with gradient.
        velocity_old: [b, R, h, 7], of the frozen policy.
        target: [b, R, H, A] or [b, R, h, 7].
        optimality: [b].
        beta: Distance of the implicit policies.
        max_drift: Bound of the root mean square of ``velocity - velocity_old``.
        is_executed: Bool [b, h], actions that count; None for all.
    """
    drift = velocity - velocity_old
    if is_executed is not None:
        drift = drift * is_executed[:, None, :, None]
    step = beta * bounded_drift(drift, max_drift)
    good = squared_error(velocity_old + step, target, is_executed)
    bad = squared_error(velocity_old - step, target, is_executed)
    share = optimality[:, None]
    return share * good + (1.0 - share) * bad


class Nft(FlowMatching):
    """See the module; the frozen policy follows the current one after every update."""

    def __init__(self, algo: AlgoConfig) -> None:
        super().__init__(algo)
        self._old: Snapshot | None = None

    def has_signal(self, batch: Batch) -> NDArray[np.bool_]:
        """Return the samples that were better or worse than their siblings."""
        return (batch.advantages != 0) & (batch.weights > 0)

    @torch.no_grad()
    def begin(
        self, model: Model, targets: Targets, micro_batches: Sequence[Indices], seed: int
    ) -> None:
        """Compute the velocities of the frozen policy at every point of every pass."""
        super().begin(model, targets, micro_batches, seed)
        if self._old is None:
            self._old = Snapshot(model.parameters())
        with model.holding(self._old.weights):
            self._by_old = [
                by_sample(
                    micro_batches,
                    [self.velocity_at(micro_batch, epoch)[0] for micro_batch in micro_batches],
                )
                for epoch in range(self._algo.num_epochs)
            ]

    def terms(self, own_index: Indices, epoch: int) -> Terms:
        """Return the loss of a micro-batch."""
        nft = self._algo.nft
        velocity, target = self.velocity_at(own_index, epoch)
        share = optimality(self._targets.advantages[own_index], nft.max_advantage)
        old = self._by_old[epoch][own_index]
        is_executed = self.is_executed(velocity, own_index)
        loss = nft_loss(velocity, old, target, share, nft.beta, nft.max_drift, is_executed)
        return Terms(loss=(loss + self.penalty(velocity, own_index, epoch)).mean(dim=1))

    def finish(self) -> None:
        """Let the frozen policy follow."""
        assert self._old is not None, "finish comes after begin"
        self._old.follow(self._model.parameters(), self._algo.nft.ema)

    def state(self) -> dict[str, Tensor]:
        """Return the frozen policy and the reference policy."""
        return super().state() | ({} if self._old is None else self._old.state(_OLD))

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Continue from a stored state."""
        super().load_state(tensors)
        self._old = Snapshot.from_state(tensors, _OLD)
