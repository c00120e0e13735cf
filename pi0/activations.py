"""GELU and SiLU whose result at a place does not depend on where in the tensor the place is.

On a CPU, torch computes the last few numbers of a tensor (and of each thread's share of it) with other
instructions than the rest, and its gelu, silu and sigmoid round differently there. A row's answer
would then depend on its position in the batch. torch's tanh has no such seam.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

_SCALE = math.sqrt(2 / math.pi)
_CUBIC = 0.044715


class _SeamlessGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        y = x * x
        y.mul_(_SCALE * _CUBIC).add_(_SCALE).mul_(x).tanh_()
        return y.add_(1.0).mul_(x).mul_(0.5)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.gelu_backward(grads[0], x, approximate="tanh")


def gelu(x: Tensor) -> Tensor:
    """Return tanh-approximated GELU, any shape."""
    if x.device.type != "cpu":
        return F.gelu(x, approximate="tanh")
    return _SeamlessGelu.apply(x)


def silu(x: Tensor) -> Tensor:
    """Return x * sigmoid(x), any shape; sigmoid(x) = (1 + tanh(x / 2)) / 2."""
    return x * (0.5 + 0.5 * torch.tanh(0.5 * x))
