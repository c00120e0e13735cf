"""What every engine offers, and what a checkpoint holds of it."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineState:
    """What an engine needs to resume: tensors for safetensors, plain numbers for JSON.

    Attributes:
        tensors: AdamW moments by ``"<parameter number>.<name>"``, on the CPU; under the name ``weight`` the
            parameters too that the saved policy does not hold. Of sharded tensors each rank has its shard.
        num_steps: Optimizer steps taken.
    """

    tensors: Mapping[str, Tensor]
    num_steps: int


class Engine(Protocol):
    """What an update needs of an engine; there are those for one and for many devices."""

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
