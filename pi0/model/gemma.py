"""The parts of a Gemma layer, on transformers' modules and weights.

The residual stream is float32 whatever the weights; projections run in the precision their input was
cast to. One key-value head serves all query heads, so heads are folded into the query axis: keys and
values are read in place and never repeated.

Shape legend: B samples, T tokens, n keys, D head width, W width.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pi0.model.products import project

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Angles:
    """Rotary angles of T tokens: cosines and sines, float32 [B, T, 1, D / 2]."""

    cos: Tensor
    sin: Tensor


def rotary_angles(rotary: nn.Module, positions: Tensor) -> Angles:
    """Return the angles of int64 positions [B, T]."""
    like = torch.empty(0, dtype=torch.float32, device=positions.device)
    cos, sin = (
        table.chunk(2, dim=-1)[0][:, :, None] for table in rotary(like, positions)
    )  # both halves hold the same angles
    return Angles(cos=cos, sin=sin)


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """Turn float [B, T, heads, D] by the angles of its tokens; computed in float32."""
    first, second = x.float().chunk(2, dim=-1)
    turned = [
        first * angles.cos - second * angles.sin,
        second * angles.cos + first * angles.sin,
    ]
    return torch.cat(turned, dim=-1).to(x.dtype)


def rms_norm(norm: Any, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return Gemma's norm of float32 ``x``, cast to ``dtype``."""
    scale = 1.0 + norm.weight.float()
    return F.rms_norm(x, scale.shape, scale, norm.eps).to(dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Modulation:
    """What the denoise times of S steps make of a norm: each float32 [S, 1, W] or [B, S, 1, W]."""

    scale: Tensor
    shift: Tensor
    gate: Tensor


class AdaptiveNorm(nn.Module):
    """pi0.5's norm of the action expert: rms(x) * (1 + scale) + shift, and a gate for what follows.

    Scale, shift and gate are thirds of ``dense(c)`` (openpi models/gemma.py). ``dense`` begins at zero,
    so that a new expert's layers return their input.
    """

    def __init__(self, width: int, eps: float) -> None:
        """Build the norm of tokens of this width; ``eps`` is added to the mean square."""
        super().__init__()
        self.dense = nn.Linear(width, 3 * width)
        self.eps = eps
        self.close_gates()

    def close_gates(self) -> None:
        """Start as openpi does: nothing is modulated, and what follows adds nothing."""
        nn.init.zeros_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)

    def modulation(self, c: Tensor) -> Modulation:
        """Return the modulation for the condition c, float32 [S, W] or [B, S, W]."""
        scale, shift, gate = self.dense(c)[..., None, :].chunk(3, dim=-1)
        return Modulation(scale=scale, shift=shift, gate=gate)

    def forward(self, x: Tensor, modulation: Modulation, dtype: torch.dtype) -> Tensor:
        """Return the norm of float32 ``x`` [B, S * H, W], cast to ``dtype``."""
        normed = F.rms_norm(x, x.shape[-1:], eps=self.eps)
        normed = _by_step(normed, modulation.scale) * (1.0 + modulation.scale) + modulation.shift
        return normed.flatten(1, 2).to(dtype)


def add(hidden: Tensor, update: Tensor, modulation: Modulation | None) -> Tensor:
    """Return the residual stream after an update, gated where there is a modulation."""
    if modulation is None:
        return hidden + update
    return hidden + (modulation.gate * _by_step(update, modulation.gate)).flatten(1, 2)


def normalize(norm: Any, x: Tensor, modulation: Modulation | None, dtype: torch.dtype) -> Tensor:
    """Return the norm of float32 ``x``, cast to ``dtype``: Gemma's, or pi0.5's with its modulation."""
    return rms_norm(norm, x, dtype) if modulation is None else norm(x, modulation, dtype)


def _by_step(x: Tensor, per_step: Tensor) -> Tensor:
    """[B, S * H, W] -> [B, S, H, W]."""
    return x.unflatten(1, (per_step.shape[-3], -1))


def query_of(layer: Any, normed: Tensor, angles: Angles) -> Tensor:
    """Return the rotated query [B, T, heads, D]."""
    attention = layer.self_attn
    query = project(attention.q_proj, normed).unflatten(-1, (-1, attention.head_dim))
    return rotate(query, angles)


def key_value_of(layer: Any, normed: Tensor, angles: Angles) -> tuple[Tensor, Tensor]:
    """Return the rotated key and the value, each [B, T, D]."""
    attention = layer.self_attn
    key = rotate(project(attention.k_proj, normed)[:, :, None], angles)[:, :, 0]
    return key, project(attention.v_proj, normed)


def additive_mask(is_visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what attention adds to its scores: 0 where a key is visible, else minus infinity."""
    return torch.zeros_like(is_visible, dtype=dtype).masked_fill_(~is_visible, -math.inf)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Let every query attend to all visible keys of its sample.

    Args:
        query: Float [B, T, heads, D].
        key: Float [B, n, D].
        value: Float [B, n, D].
        mask: Of the keys, [B, n] in the precision of the query; see ``additive_mask``.

    Returns:
        Float [B, T, heads * D].
    """
    attended = F.scaled_dot_product_attention(
        query.flatten(1, 2)[:, None], key[:, None], value[:, None], attn_mask=mask[:, None, None]
    )
    return attended.view(*query.shape[:2], -1)


def finish_layer(
    layer: Any,
    hidden: Tensor,
    attended: Tensor,
    modulations: tuple[Modulation | None, Modulation | None] = (None, None),
) -> Tensor:
    """Return the layer's output: attention and gated MLP added to the residual stream.

    Args:
        layer: transformers' module.
        hidden: Float32 [B, T, W], the layer's input.
        attended: Float [B, T, heads * D].
        modulations: Of the layer's two norms; None for Gemma's own.
    """
    before, after = modulations
    hidden = add(hidden, project(layer.self_attn.o_proj, attended), before)
    normed = normalize(layer.post_attention_layernorm, hidden, after, attended.dtype)
    gated = gated_gelu(project(layer.mlp.gate_proj, normed), project(layer.mlp.up_proj, normed))
    return add(hidden, project(layer.mlp.down_proj, gated), after)


def run_layer(
    layer: Any, step: Callable[[Tensor], Any], hidden: Tensor, *, is_checkpointed: bool
) -> Any:
    """Return ``step(hidden)``, what is computed with the weights of one layer.

    Args:
        layer: transformers' module.
        step: What to compute.
        hidden: Float32 [B, T, W], the layer's input.
        is_checkpointed: Compute the step again in a backward pass instead of keeping what it computed on the way.
    """
    if is_checkpointed and torch.is_grad_enabled():
        step = partial(checkpoint, step, use_reentrant=False, preserve_rng_state=False)
    # a layer whose weights are sharded over ranks is called, so that they are gathered
    return layer(step, hidden) if "forward" in vars(layer) else step(hidden)
