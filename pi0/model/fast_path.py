"""Is a fast way of denoising right? Its first action chunks of every size are compared with the plain way's.

A compiler or a recorded graph that goes wrong gives actions that look like others, and success rates that nobody
can explain.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Denoising = Literal["plain", "compiled", "graphs"]
# Way of denoising -> the setting that chooses it.
SWITCHES: Mapping[Denoising, str] = {
    "compiled": "policy.compile",
    "graphs": "policy.cuda_graphs",
}
# What an entry of a denoising chain may differ by, as a share of the largest one. Sums in another order give
# 1e-6 in float32; in bfloat16, which rounds to 2^-8 in every product, a few percent where steps add up.
TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.1}


class FastPathError(ValueError):
    """A fast way of denoising gives other action chunks than the plain one."""


def require_alike(fast: Tensor, plain: Tensor, way: Denoising, dtype: torch.dtype) -> None:
    """Compare the denoising chains that two ways draw from the same observations and noise.

    Args:
        fast: Float32 [B, S + 1, H, A].
        plain: The same of the plain way.
        way: The fast one.
        dtype: Precision of attention and MLPs.

    Raises:
        FastPathError: They differ by more than rounding can explain; names the switch.
    """
    scale = max(1.0, float(plain.abs().max()))
    distance, allowed = float((fast - plain).abs().max()), TOLERANCES[dtype] * scale
    if not distance <= allowed:  # NaN is no number
        name = str(dtype).removeprefix("torch.")
        raise FastPathError(
            f"{way} and plain denoising differ by {distance:.2g} on the first observations of a call of "
            f"{len(fast)} (allowed in {name}: {allowed:.2g}); type --{SWITCHES[way]} false"
        )
