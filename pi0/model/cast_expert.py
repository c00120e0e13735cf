"""The action expert with its matrices in the precision in which they are used, cast once per state of the weights."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import torch
from torch import nn

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")


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
