"""The optional penalty on the distance from the policy that a run began with."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pi0.ript.algo.objective import Indices, Model, by_sample

_NAME = "reference"


@contextmanager
def holding(parameters: Sequence[nn.Parameter], weights: Sequence[Tensor]) -> Generator[None]:
    """Give parameters other weights inside the block; copied only if on another device."""
    assert len(parameters) == len(weights), "the weights belong to other parameters"
    own = [parameter.data for parameter in parameters]
    try:
        for parameter, other in zip(parameters, weights, strict=True):
            parameter.data = other.to(parameter.device)
        yield
    finally:
        for parameter, data in zip(parameters, own, strict=True):
            parameter.data = data


class Snapshot:
    """A copy of trained weights that can follow them slowly.

    Args:
        weights: The weights to copy, in the order of the trained parameters.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.weights = [weight.detach().clone() for weight in weights]

    @torch.no_grad()
    def follow(self, weights: Sequence[Tensor], keep: float) -> None:
        """Become ``keep`` of what it was and ``1 - keep`` of the given weights."""
        for mine, theirs in zip(self.weights, weights, strict=True):
            # a snapshot from a checkpoint begins on the CPU
            mine.lerp_(theirs.to(mine.device), 1.0 - keep)

    def state(self, name: str) -> dict[str, Tensor]:
        """Return the tensors as ``<name>.<number>``, on the CPU."""
        return {f"{name}.{n}": weight.to("cpu", copy=True) for n, weight in enumerate(self.weights)}

    @classmethod
    def from_state(cls, tensors: dict[str, Tensor], name: str) -> "Snapshot | None":
        """Return the snapshot stored under a name, or None if there is none."""
        numbers = range(sum(key.startswith(f"{name}.") for key in tensors))
        missing = [f"{name}.{n}" for n in numbers if f"{name}.{n}" not in tensors]
        if missing:
            raise ValueError(f"the checkpoint's objective lacks {missing[0]}; use another one")
        return cls([tensors[f"{name}.{n}"] for n in numbers]) if numbers else None


class Reference:
    """Remembers the first weights it is given, and what they predict for the samples of an update.

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
        self, model: Model, micro_batches: Sequence[Indices], predict: Callable[[Indices], Tensor]
    ) -> Tensor | None:
        """Return ``predict`` of all samples under the first weights, by own index; None if switched off."""
        if not self.is_on:
            return None
        if self._snapshot is None:
            self._snapshot = Snapshot(model.parameters())
        with model.holding(self._snapshot.weights):
            return by_sample(micro_batches, [predict(micro_batch) for micro_batch in micro_batches])

    def state(self) -> dict[str, Tensor]:
        """Return what has to survive in a checkpoint."""
        return {} if self._snapshot is None else self._snapshot.state(_NAME)

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Continue from a stored state."""
        self._snapshot = Snapshot.from_state(tensors, _NAME)
