"""Every rank holds the whole policy: gradients are added up before each optimizer step.

A rank's loss is divided by the weight of the whole minibatch, so the SUM of the gradients of all ranks is
the gradient that a single process would have computed, however unequal their parts are.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from pi0.ript.engine.engine import EngineState
from pi0.ript.engine.process_group import ProcessGroup
from pi0.ript.engine.single import SingleEngine

BUCKET_NUMBERS = 2**24  # 64 MB of float32 per message


class DdpEngine:
    """A ``SingleEngine`` on every rank, all with the same gradient.

    Args:
        engine: Of this rank; begins with the same weights everywhere.
        process_group: The ranks.
    """

    needs_equal_passes = False

    def __init__(self, engine: SingleEngine, process_group: ProcessGroup) -> None:
        self._engine = engine
        self._process_group = process_group

    def learning(self) -> nullcontext[None]:
        """Nothing has to be prepared."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of this rank's part of the loss."""
        self._engine.backward(loss)

    def exchange(self, values: Sequence[float]) -> list[float]:
        """Add up gradients and values over ranks. A collective: all ranks call it."""
        parameters = self._engine.parameters
        has_gradient = [float(parameter.grad is not None) for parameter in parameters]
        message = torch.tensor([*values, *has_gradient], dtype=torch.float64)
        self._process_group.sum_in_place(message)
        sums = message.tolist()
        # A rank without samples has no gradients; a parameter that no rank used must stay untouched.
        used = [p for p, n in zip(parameters, sums[len(values) :], strict=True) if n > 0]
        for bucket in buckets(used, BUCKET_NUMBERS):
            self._add_up(bucket)
        return sums[: len(values)]

    def step(self, lr_share: float = 1.0) -> float:
        """Clip and take one AdamW step, the same on every rank."""
        return self._engine.step(lr_share)

    def discard(self) -> None:
        """Forget the accumulated gradient."""
        self._engine.discard()

    def state(self) -> EngineState:
        """Return the state, which is the same on every rank."""
        return self._engine.state()

    def load_state(self, state: EngineState) -> None:
        """Continue from a stored state, of any number of ranks."""
        self._engine.load_state(state)

    def _add_up(self, bucket: list[nn.Parameter]) -> None:
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in bucket]
        message = torch.cat([gradient.flatten() for gradient in gradients])
        self._process_group.sum_in_place(message)
        parts = message.split([parameter.numel() for parameter in bucket])
        for parameter, part in zip(bucket, parts, strict=True):
            parameter.grad = part.view_as(parameter)


def buckets(parameters: Sequence[nn.Parameter], size: int) -> Iterator[list[nn.Parameter]]:
    """Yield the parameters in runs of about ``size`` numbers and of one dtype."""
    bucket: list[nn.Parameter] = []
    for parameter in parameters:
        is_full = sum(p.numel() for p in bucket) >= size
        if bucket and (is_full or bucket[0].dtype != parameter.dtype):
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket
