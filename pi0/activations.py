"""GELU and SiLU whose result at a place does not depend on where in the tensor the place is.

On a CPU, torch computes the last few numbers of a tensor (and of each thread's share of it) with other
instructions than the rest, and its gelu, silu and sigmoid round differently there. A row's answer
would then depend on its position in the batch. torch's tanh has no such seam, nor have single sums and
products.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

_SCALE = math.sqrt(2 / math.pi)
_CUBIC = 0.044715


class _GatedGelu(torch.autograd.Function):
    """gelu(gate) * up; the backward pass computes gelu(gate) again instead of keeping it."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return _gelu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        to_gate = torch.ops.aten.gelu_backward(grads[0] * up, gate, approximate="tanh")
        return to_gate, _gelu(gate).mul_(grads[0])


class _SeamlessGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _gelu(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.gelu_backward(grads[0], x, approximate="tanh")


def gelu(x: Tensor) -> Tensor:
    """Return tanh-approximated GELU, any shape."""
    return _SeamlessGelu.apply(x)


def gated_gelu(gate: Tensor, up: Tensor) -> Tensor:
    """Return gelu(gate) * up, both of one shape."""
    return _GatedGelu.apply(gate, up)


def silu(x: Tensor) -> Tensor:
    """Return x * sigmoid(x), any shape; sigmoid(x) = (1 + tanh(x / 2)) / 2."""
    return x * (0.5 + 0.5 * torch.tanh(0.5 * x))


def _gelu(x: Tensor) -> Tensor:
    if x.device.type != "cpu":
        return F.gelu(x, approximate="tanh")
    if x.dtype == torch.bfloat16:
        # rounding between the steps below would cost three digits
        return _gelu(x.float()).bfloat16()
    y = x * x
    y.mul_(_SCALE * _CUBIC).add_(_SCALE).mul_(x).tanh_()
    return y.add_(1.0).mul_(x).mul_(0.5)
