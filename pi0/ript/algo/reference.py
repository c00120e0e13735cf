"""The optional penalty on the distance from the policy that a run began with."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pi0.ript.algo.objective import Model, Rows, by_row
from pi0.ript.algo.snapshot import Snapshot

_NAME = "reference"


class Reference:
    """Remembers the first weights it sees, and what they predict for the rows of an update.

    Args:
        weight: Weight of the penalty in the loss; 0 remembers nothing and costs nothing.
    """

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self._snapshot: Snapshot | None = None

    @property
    def is_on(self) -> bool:
        """Return whether there is a penalty."""
        return self.weight > 0

    @torch.no_grad()
    def predict(
        self, model: Model, pieces: Sequence[Rows], predict: Callable[[Rows], Tensor]
    ) -> Tensor | None:
        """Return ``predict`` of all rows under the first weights, in row order; None if switched off."""
        if not self.is_on:
            return None
        if self._snapshot is None:
            self._snapshot = Snapshot(model.parameters())
        with model.holding(self._snapshot.weights):
            return by_row(pieces, [predict(piece) for piece in pieces])

    def state(self) -> dict[str, Tensor]:
        """Return what has to survive in a checkpoint."""
        return {} if self._snapshot is None else self._snapshot.state(_NAME)

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Continue from a stored state."""
        self._snapshot = Snapshot.from_state(tensors, _NAME)
