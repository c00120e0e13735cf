"""What the suffix needs to know about the prefix, and in which passes the prefix is read.

Shape legend: B samples, L prefix tokens, D head width.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

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
