"""The action expert: its layers over the tokens of the suffix, and its matrices in the precision that acting uses.

Shape legend: B samples, S denoise steps, H actions per chunk, n leading tokens, T = n + S * H suffix tokens, D head width,
W expert width.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Self

import torch
from torch import Tensor, nn

from pi0.model.cache import PrefixCache
from pi0.model.gemma import finish_layer, key_value_of, normalize, query_of, run_layer
from pi0.model.layout import SuffixLayout, attend_suffix
from pi0.model.suffix import TimeCondition

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")


def run_expert(
    tokens: Tensor,
    cache: PrefixCache,
    condition: TimeCondition,
    layout: SuffixLayout,
    dtype: torch.dtype,
    *,
    is_checkpointed: bool,
) -> Tensor:
    """Return the last hidden states of the action tokens, float32 [B, S * H, W].

    Args:
        tokens: Float32 [B, T, W].
        cache: Of the prefix, which every layer attends to.
        condition: What the denoise times contribute.
        layout: Holds the expert.
        dtype: Precision of attention and MLPs.
        is_checkpointed: See ``run_layer``.
    """
    expert, hidden = layout.expert, tokens
    for number, layer in enumerate(expert.layers):
        past = cache.keys[number], cache.values[number]
        buffer = None if layout.buffers is None else layout.buffers[number]
        step = partial(_layer, layer, number, past, layout, buffer, condition, dtype)
        hidden = run_layer(layer, step, hidden, is_checkpointed=is_checkpointed)
    last = condition.modulation(expert.norm, -1)
    return normalize(expert.norm, hidden[:, layout.num_leading :], last, torch.float32)


def _layer(
    layer: Any,
    number: int,
    past: tuple[Tensor, Tensor],
    layout: SuffixLayout,
    buffer: tuple[Tensor, Tensor] | None,
    condition: TimeCondition,
    dtype: torch.dtype,
    hidden: Tensor,
) -> Tensor:
    before = condition.modulation(layer.input_layernorm, 2 * number)
    after = condition.modulation(layer.post_attention_layernorm, 2 * number + 1)
    normed = normalize(layer.input_layernorm, hidden, before, dtype)
    query = query_of(layer, normed, layout.angles)
    new = key_value_of(layer, normed, layout.angles)
    attended = attend_suffix(query, new, past, layout, buffer)
    return finish_layer(layer, hidden, attended, (before, after))


@dataclass(slots=True)
class CastExpert:
    """Keeps a copy for acting; norms and adapters are the expert's own modules' tensors.

    A copy stays where it is in memory: changed weights are cast into it.
    """

    _copy: Any = None
    _versions: tuple[tuple[int, int], ...] = ()

    def get(self, expert: Any, dtype: torch.dtype) -> Any:
        """Return the expert itself where nothing is to be cast."""
        masters = [linear for linear in projections(expert) if linear.weight.dtype != dtype]
        if not masters:
            return expert
        # torch counts how often a tensor was written to
        weights = [linear.weight for linear in masters]
        versions = tuple((weight.data_ptr(), weight._version) for weight in weights)  # noqa: SLF001
        if versions != self._versions:
            self._refresh(expert, dtype)
            self._versions = versions
        return self._copy

    @torch.no_grad()
    @torch.inference_mode(mode=False)  # so that it may be refreshed in any mode
    def _refresh(self, expert: Any, dtype: torch.dtype) -> None:
        if self._copy is None:
            self._copy = _copy_in(dtype, expert)
        for mine, master in zip(projections(self._copy), projections(expert), strict=True):
            mine.weight.copy_(master.weight)

    def __deepcopy__(self, memo: object) -> Self:
        """Return an empty one: a copy's weights count their own changes."""
        return type(self)()


def _copy_in(dtype: torch.dtype, expert: Any) -> Any:
    """Return the same modules and tensors, but for projections that have room for weights in ``dtype``."""
    tensors = chain(expert.parameters(), expert.buffers())
    copied = deepcopy(expert, {id(tensor): tensor for tensor in tensors})
    for linear in projections(copied):
        room = torch.empty_like(linear.weight, dtype=dtype)
        linear.weight = nn.Parameter(room, requires_grad=False)
    return copied


def projections(expert: Any) -> Iterator[nn.Linear]:
    """Yield the projections of all layers; adapted ones hold their weights in the right precision already."""
    for layer in expert.layers:
        parts = ((layer.self_attn, _ATTENTION), (layer.mlp, _MLP))
        for linear in (getattr(part, name) for part, names in parts for name in names):
            if type(linear) is nn.Linear:
                yield linear
