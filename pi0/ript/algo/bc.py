"""Success-filtered cloning: flow matching on the action chunks of successful rollouts.

Failures have no signal, so it cannot be pushed away from a mistake, and every update narrows the policy. What succeeded
once is imitated whichever weights drew it, so successes of earlier steps can be replayed as they are.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pi0.ript.algo.flow_matching import FlowMatching, squared_error
from pi0.ript.algo.objective import Indices, Model, ReplayTotals, Targets, Terms
from pi0.ript.types import Batch


class Cloning(FlowMatching):
    """See the module."""

    @property
    def _by_advantage(self) -> bool:
        return self._algo.success_weight == "advantage"

    def has_signal(self, batch: Batch) -> NDArray[np.bool_]:
        """Return the samples of successful rollouts, by advantage only of those with one."""
        is_better = batch.advantages > 0 if self._by_advantage else True
        return batch.is_success & (batch.weights > 0) & is_better

    def begin(
        self, model: Model, targets: Targets, micro_batches: Sequence[Indices], seed: int
    ) -> ReplayTotals | None:
        """Prepare the passes; return how many samples are of earlier steps."""
        super().begin(model, targets, micro_batches, seed)
        replayed = targets.behavior_means
        return None if replayed is None else ReplayTotals.unweighted(len(replayed))

    @property
    def means_before(self) -> tuple[Indices, Tensor]:
        """Return the samples of the last update, int64 [n], and no means, float32 [n, 0, 0, 0]: none are compared."""
        index = self._targets.batch_index
        return index, self._targets.weights.new_zeros((len(index), 0, 0, 0))

    def terms(self, own_index: Indices, epoch: int) -> Terms:
        """Return the loss of a micro-batch."""
        velocity, target = self.velocity_at(own_index, epoch)
        is_executed = self.is_executed(velocity, own_index)
        error = squared_error(velocity, target, is_executed)
        if self._by_advantage:
            error = self._targets.advantages[own_index][:, None] * error
        return Terms(loss=(error + self.penalty(velocity, own_index, epoch)).mean(dim=1))
