"""Advantage-conditioned flow matching with classifier-free guidance.

The network has two branches that share all weights: the conditional one is the network as it is, the
unconditional one adds a learned vector to its state token. The vector begins at zero, so both branches
begin as the checkpoint. Rollouts better than their siblings train the conditional branch, all rollouts the
unconditional one, with the same noise and times:

    loss = [A > 0] * ||v_c - u||^2 + uncond_weight * ||v_u - u||^2

Acting follows ``v_u + guidance * (v_c - v_u)``: guidance 1 is the conditional branch, 0 the unconditional
one, more than 1 moves away from what failures have in common.

Source: CFGRL, arXiv 2505.23458.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pi0.ript.algo.flow_matching import FlowMatching, squared_error
from pi0.ript.algo.objective import Indices, Terms
from pi0.ript.types import Batch


def cfg_loss(
    conditional: Tensor,
    unconditional: Tensor,
    target: Tensor,
    advantage: Tensor,
    uncond_weight: float,
    is_executed: Tensor | None = None,
) -> Tensor:
    """Return the loss of every draw, [b, R].

    Args:
        conditional: [b, R, h, 7], velocities of the conditional branch.
        unconditional: [b, R, h, 7], of the other branch at the same points.
        target: [b, R, H, A] or [b, R, h, 7].
        advantage: [b].
        uncond_weight: Weight of the unconditional branch.
        is_executed: Bool [b, h], actions that count; None for all.
    """
    is_good = (advantage > 0).to(conditional.dtype)[:, None]
    unconditional_error = squared_error(unconditional, target, is_executed)
    conditional_error = squared_error(conditional, target, is_executed)
    return is_good * conditional_error + uncond_weight * unconditional_error


class GuidedCloning(FlowMatching):
    """See the module."""

    def has_signal(self, batch: Batch) -> NDArray[np.bool_]:
        """Return all samples: failures train the unconditional branch."""
        return batch.weights > 0

    def terms(self, own_index: Indices, epoch: int) -> Terms:
        """Return the loss of a micro-batch."""
        conditional, target = self.velocity_at(own_index, epoch)
        unconditional, _ = self.velocity_at(own_index, epoch, is_conditional=False)
        advantage = self._targets.advantages[own_index]
        is_executed = self.is_executed(conditional, own_index)
        weight = self._algo.cfg.uncond_weight
        loss = cfg_loss(conditional, unconditional, target, advantage, weight, is_executed)
        return Terms(loss=(loss + self.penalty(conditional, own_index, epoch)).mean(dim=1))
