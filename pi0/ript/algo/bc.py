"""Success-filtered cloning: flow matching on the action chunks of successful rollouts. The control.

Failures have no signal, so it cannot be pushed away from a mistake, and every update narrows the policy.
"""

import numpy as np
from numpy.typing import NDArray

from pi0.ript.algo.flow_matching import FlowMatching, squared_error
from pi0.ript.algo.objective import Indices, Terms
from pi0.ript.types import Batch


class Cloning(FlowMatching):
    """See the module."""

    def has_signal(self, batch: Batch) -> NDArray[np.bool_]:
        """Return the samples of successful rollouts."""
        return batch.is_success & (batch.weights > 0)

    def terms(self, own_index: Indices, epoch: int) -> Terms:
        """Return the loss of a micro-batch."""
        velocity, target = self.velocity_at(own_index, epoch)
        is_executed = self.is_executed(velocity, own_index)
        loss = squared_error(velocity, target, is_executed) + self.penalty(
            velocity, own_index, epoch
        )
        return Terms(loss=loss.mean(dim=1))
