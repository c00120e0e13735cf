"""What the suffix needs to know about the prefix, and where suffix tokens stand.

Shape legend: B samples, L prefix tokens, S denoise steps, H actions per chunk, n leading tokens (pi0's
state; pi0.5 has none), T = n + S * H suffix tokens, D head width.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from pi0.model.gemma import Angles, additive_mask, attend

# On a CPU the prefix is read in passes of about this many tokens: what a layer computes on the way stays
# in the processor's cache, and no allocation is large enough to be returned to the system after use.
TOKENS_PER_CPU_PASS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixCache:
    """What the suffix needs to know about B observations. Read-only but for ``write``.

    Attributes:
        keys: Per layer [B, L, D].
        values: Per layer [B, L, D].
        is_valid: Bool [B, L]; False is padding.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    is_valid: Tensor

    def __len__(self) -> int:
        return len(self.is_valid)

    @property
    def num_bytes(self) -> int:
        """Return what keys and values take."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    def select(self, index: Tensor | slice) -> "PrefixCache":
        """Return the cache of chosen samples; ``index`` int64 [b], or a slice."""
        return PrefixCache(
            keys=tuple(key[index] for key in self.keys),
            values=tuple(value[index] for value in self.values),
            is_valid=self.is_valid[index],
        )

    def to(self, device: torch.device) -> "PrefixCache":
        """Return the cache on a device; copies from pinned memory do not wait."""
        return PrefixCache(
            keys=tuple(key.to(device, non_blocking=True) for key in self.keys),
            values=tuple(value.to(device, non_blocking=True) for value in self.values),
            is_valid=self.is_valid.to(device, non_blocking=True),
        )

    def write(self, where: slice, some: "PrefixCache") -> None:
        """Overwrite samples; for who has made the cache with ``empty_cache``."""
        mine, theirs = ((*cache.keys, *cache.values, cache.is_valid) for cache in (self, some))
        for room, tensor in zip(mine, theirs, strict=True):
            room[where].copy_(tensor)


def empty_cache(
    num_samples: int, like: PrefixCache, *, in_host_memory: bool = False
) -> PrefixCache:
    """Return a cache with room for ``num_samples``, of the sizes and on the device of another.

    Args:
        num_samples: How many.
        like: The other one.
        in_host_memory: On the host instead, pinned where the other is on a GPU.
    """
    is_pinned = in_host_memory and like.is_valid.is_cuda

    def room(tensor: Tensor) -> Tensor:
        device = torch.device("cpu") if in_host_memory else tensor.device
        shape = (num_samples, *tensor.shape[1:])
        return torch.empty(shape, dtype=tensor.dtype, device=device, pin_memory=is_pinned)

    return PrefixCache(
        keys=tuple(map(room, like.keys)),
        values=tuple(map(room, like.values)),
        is_valid=room(like.is_valid),
    )


def join_caches(caches: list[PrefixCache]) -> PrefixCache:
    """Return one cache of the samples of all, in order."""
    if len(caches) == 1:
        return caches[0]
    return PrefixCache(
        keys=tuple(torch.cat(layer) for layer in zip(*(c.keys for c in caches), strict=True)),
        values=tuple(torch.cat(layer) for layer in zip(*(c.values for c in caches), strict=True)),
        is_valid=torch.cat([cache.is_valid for cache in caches]),
    )


def sample_passes(is_valid: Tensor) -> list[slice]:
    """Return equal parts of the samples of bool [B, L] that are read at once.

    All samples on a GPU; on a CPU the largest divisor of B whose tokens fit a pass, so that the shape of
    a sample's pass never depends on its position in the batch.
    """
    samples, length = is_valid.shape
    limit = samples if is_valid.device.type != "cpu" else max(1, TOKENS_PER_CPU_PASS // length)
    size = next(n for n in range(min(samples, limit), 0, -1) if samples % n == 0)
    return [slice(start, start + size) for start in range(0, samples, size)]


def trimmed_length(is_valid: Tensor) -> int:
    """Return how many of the L tokens a pass has to read.

    Padding at the end is left out where a pass has one sample and reading the mask costs nothing; a pass
    of several samples keeps its shape, so that samples do not depend on each other's length.
    """
    samples, length = is_valid.shape
    if samples > 1 or is_valid.device.type != "cpu":
        return length
    return int(is_valid[0].nonzero()[-1]) + 1


def padded(tensor: Tensor, length: int) -> Tensor:
    """Return [B, n, D] with zeros up to [B, length, D]."""
    missing = length - tensor.shape[1]
    return F.pad(tensor, (0, 0, 0, missing)) if missing else tensor


@dataclass(frozen=True, slots=True, weakref_slot=True, kw_only=True)
class SuffixLayout:
    """Where S packed steps stand behind one cache and what they attend to; the same for every pass.

    Attributes:
        num_steps: S.
        num_leading: n.
        angles: Rotary angles of the T suffix tokens.
        expert: The expert's modules; their matrices are cast beforehand where buffers are given.
        mask: [B * S, L + n + H], see ``additive_mask``: a step attends to prefix, leading tokens, its own actions.
        mask_of_leading: [B, L + n].
        buffers: Per layer keys and values [B, L + n + H, D] that hold the prefix already and are
            overwritten behind it by every pass; None where gradients need each pass's own tensors.
    """

    num_steps: int
    num_leading: int
    angles: Angles
    expert: Any
    mask: Tensor
    mask_of_leading: Tensor
    buffers: tuple[tuple[Tensor, Tensor], ...] | None


def suffix_masks(
    is_valid: Tensor, num_steps: int, horizon: int, num_leading: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the masks of steps, [B * S, L + n + H], and of leading tokens, [B, L + n]."""
    to_prefix = additive_mask(is_valid, dtype)
    to_steps = F.pad(to_prefix, (0, num_leading + horizon))
    return to_steps.repeat_interleave(num_steps, dim=0), F.pad(to_prefix, (0, num_leading))


def suffix_positions(is_valid: Tensor, num_steps: int, horizon: int, num_leading: int) -> Tensor:
    """Return int64 [B, T]: leading tokens follow the prefix, and every step follows them."""
    leading = torch.arange(num_leading, device=is_valid.device)
    within = torch.arange(num_leading, num_leading + horizon, device=is_valid.device)
    return is_valid.sum(-1, keepdim=True) + torch.cat([leading, within.repeat(num_steps)])


def make_buffers(cache: PrefixCache, num_own: int) -> tuple[tuple[Tensor, Tensor], ...]:
    """Return the prefix of every layer with room for ``num_own`` suffix tokens behind it."""
    return tuple(
        (F.pad(key, (0, 0, 0, num_own)), F.pad(value, (0, 0, 0, num_own)))
        for key, value in zip(cache.keys, cache.values, strict=True)
    )


def attend_suffix(
    query: Tensor, new: tuple[Tensor, Tensor], past: tuple[Tensor, Tensor], layout: SuffixLayout,
    buffer: tuple[Tensor, Tensor] | None,
) -> Tensor:  # fmt: skip
    """Let leading tokens and steps attend to what is visible to them.

    Every step attends on its own: packing S steps costs S times the attention of one, not S squared.

    Args:
        query: Float [B, T, heads, D].
        new: Keys and values of the suffix, each [B, T, D].
        past: Keys and values of the prefix, each [B, L, D].
        layout: Of B samples and S steps.
        buffer: The layer's buffers of the layout, or None.

    Returns:
        Float [B, T, heads * D].
    """
    num_samples, num_past = len(query), past[0].shape[1]
    num_steps, num_leading = layout.num_steps, layout.num_leading
    if buffer is None:
        shared = [
            torch.cat([old, some[:, :num_leading]], 1) if num_leading else old
            for old, some in zip(past, new, strict=True)
        ]
        to_steps = [
            _per_step(old, some[:, num_leading:], num_steps)
            for old, some in zip(shared, new, strict=True)
        ]
    else:
        for whole, some in zip(buffer, new, strict=True):
            whole[:, num_past:] = some
        to_steps = list(buffer)
        shared = [whole[:, : num_past + num_leading] for whole in buffer]
    steps = query[:, num_leading:].unflatten(1, (num_steps, -1)).flatten(0, 1)
    output = attend(steps, to_steps[0], to_steps[1], layout.mask)
    output = output.unflatten(0, (num_samples, -1)).flatten(1, 2)
    if not num_leading:
        return output
    leading = query[:, :num_leading]
    return torch.cat([attend(leading, shared[0], shared[1], layout.mask_of_leading), output], dim=1)


def _per_step(shared: Tensor, own: Tensor, num_steps: int) -> Tensor:
    """[B, L + n, D] and [B, S * H, D] -> [B * S, L + n + H, D]."""
    own = own.unflatten(1, (num_steps, -1))
    shared = shared[:, None].expand(-1, num_steps, -1, -1)
    return torch.cat([shared, own], dim=2).flatten(0, 1)
