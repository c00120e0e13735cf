"""Matrix products of the network: in the precision of their input, and by the faster library on a CPU."""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

# From this many weights on, float32 products on a CPU go to oneDNN. torch gives them to MKL, which takes
# AVX2 kernels on AMD processors that have AVX-512: half as fast. The embedded policy's matrices are smaller.
WIDE = 2**17


class _OneDnnLinear(torch.autograd.Function):
    """x @ weight.T + bias, and its gradients, by oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (x, weight) = grads, ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad
        flat = grad.flatten(0, -2)
        return (
            _product(grad, weight.t()) if to_x else None,
            _product(flat.t(), x.flatten(0, -2).t()) if to_weight else None,
            flat.sum(0) if to_bias else None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    # the operator that torch's own compiler writes for a linear layer
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # noqa: SLF001


def project(linear: nn.Module, x: Tensor) -> Tensor:
    """Apply a projection in the precision of ``x``; float32 masters are cast for the product."""
    if type(linear) is not nn.Linear:
        return linear(x)
    weight = linear.weight.to(x.dtype)
    bias = None if linear.bias is None else linear.bias.to(x.dtype)
    if _suits_onednn(x, weight):
        return _OneDnnLinear.apply(x, weight, bias)
    return F.linear(x, weight, bias)


def _suits_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and weight.numel() >= WIDE
        and torch.backends.mkldnn.is_available()
        and not torch.compiler.is_compiling()  # which chooses for itself
    )
