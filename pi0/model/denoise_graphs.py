"""Denoise steps as CUDA graphs: recorded once per size of a call, then replayed with other numbers in the same memory.

A GPU computes a denoise step of few samples in less time than the host takes to launch its hundreds of kernels; a
replay is a single launch. Arguments are copied into the memory that was recorded: the layout, which holds the prefix,
once per policy step, the rest in every denoise step. Weights are read where they lie, so they must change in place,
as they do everywhere but under FSDP.
"""

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from pi0.model.cache import PrefixCache
from pi0.model.layout import SuffixLayout
from pi0.model.suffix import TimeCondition

Recorder = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]
WARM_UP = 3  # calls before recording, in which libraries choose their kernels and take their memory


def record_on_gpu(compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Record a computation as a CUDA graph; an update may run in another thread meanwhile."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            compute()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = compute()
    return graph.replay, result


class DenoiseGraphs:
    """A network's suffix of one denoise step, as a function that replays graphs.

    Args:
        suffix: ``Pi0Network._suffix``.
        record: Returns what replays a computation, and the tensor that it leaves its result in.
    """

    def __init__(self, suffix: Callable[..., Tensor], record: Recorder = record_on_gpu) -> None:
        self._suffix, self._record = suffix, record
        self._graphs: dict[object, _Graph] = {}

    def __call__(
        self,
        cache: PrefixCache,
        state: Tensor,
        x: Tensor,
        condition: TimeCondition,
        layout: SuffixLayout,
    ) -> Tensor:
        """Return the velocity [B, 1, H, A]; see ``Pi0Network._suffix``."""
        arguments = state, x, condition
        sizes = (x.shape, cache.is_valid.shape, condition.shift is None, id(layout.expert))
        if sizes not in self._graphs:
            self._graphs[sizes] = self._make(cache, arguments, layout)
        graph = self._graphs[sizes]
        graph.fill(arguments, layout)
        graph.replay()
        return graph.result.clone()  # the next replay overwrites it

    def __deepcopy__(self, memo: object) -> Self:
        """Return itself: the copy of a network records graphs of its own, see ``set_denoising``."""
        return self

    def _make(
        self, cache: PrefixCache, arguments: tuple[Any, ...], layout: SuffixLayout
    ) -> "_Graph":
        # ordinary tensors, which can be written to in any mode
        with torch.inference_mode(mode=False), torch.no_grad():
            arguments, layout = _copied(arguments), _copied(layout)
        assert layout.buffers is not None, "graphs hold one denoise step, with buffers"
        length = cache.is_valid.shape[1]
        keys, values = (tuple(each[:, :length] for each in side) for side in zip(*layout.buffers, strict=True))  # fmt: skip
        past = PrefixCache(keys=keys, values=values, is_valid=cache.is_valid)
        replay, result = self._record(lambda: self._suffix(past, *arguments, layout))
        return _Graph(arguments=arguments, layout=layout, replay=replay, result=result)


@dataclass(slots=True, kw_only=True)
class _Graph:
    """A recorded step, its memory, and whose layout was copied into it last."""

    arguments: tuple[Any, ...]
    layout: SuffixLayout
    replay: Callable[[], None]
    result: Tensor
    source: Callable[[], SuffixLayout | None] = lambda: None

    def fill(self, arguments: tuple[Any, ...], layout: SuffixLayout) -> None:
        _overwrite(self.arguments, arguments)
        if self.source() is not layout:
            _overwrite(self.layout, layout)
            self.source = weakref.ref(layout)


def _copied(value: Any) -> Any:
    """Return nested tuples and records with copies of their tensors."""
    if isinstance(value, Tensor):
        return value.clone(memory_format=torch.contiguous_format)
    if isinstance(value, tuple):
        return tuple(map(_copied, value))
    if not is_dataclass(value) or isinstance(value, type):
        return value
    return replace(value, **{each.name: _copied(getattr(value, each.name)) for each in fields(value)})  # fmt: skip


@torch.no_grad()
def _overwrite(mine: Any, theirs: Any) -> None:
    # one launch for many tensors
    torch.ops.aten._foreach_copy_(list(_tensors(mine)), list(_tensors(theirs)))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value) and not isinstance(value, type):
        value = tuple(getattr(value, each.name) for each in fields(value))
    if isinstance(value, tuple):
        for each in value:
            yield from _tensors(each)
