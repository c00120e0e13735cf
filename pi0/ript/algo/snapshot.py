"""Earlier weights of what is trained: the frozen policy of NFT and the reference policy."""

from collections.abc import Sequence

import torch
from torch import Tensor


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
