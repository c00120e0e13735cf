"""Prefixes of a batch that are kept through an update: on the device, in pinned memory of the host, or not at all.

Shape legend: L prefix tokens, D head width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from pi0.model.cache import PrefixCache, empty_cache, join_caches
from pi0.ript.algo.objective import Indices
from pi0.ript.env.resources import read_machine

# Where runs repeat bit for bit: without a GPU, and on one with training.deterministic. The same number on every
# machine: which prefixes are computed again, and in what company, shows in the last bits. The tiny pi0 needs 0.1 MB per
# sample, the real one 10 to 15 MB.
PREFIX_BUDGET = 16 * 2**30
# Of what is free when an update begins; the rest is for activations and what else the machine does.
DEVICE_SHARE, HOST_SHARE = 0.5, 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Bytes that kept prefixes may take on the device and, beside a GPU, in pinned memory of the host."""

    device: int
    host: int = 0

    @classmethod
    def on(cls, device: torch.device) -> Self:
        """Return the room that there is now."""
        if device.type != "cuda" or torch.are_deterministic_algorithms_enabled():
            return cls(device=PREFIX_BUDGET)
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        available = read_machine().memory_bytes
        return cls(device=int(DEVICE_SHARE * (free + unused)), host=int(HOST_SHARE * available))

    def split(self, num_samples: int, sample_bytes: int) -> tuple[int, int]:
        """Return how many samples are kept on the device and how many more on the host."""
        on_device = min(num_samples, self.device // sample_bytes)
        return on_device, min(num_samples - on_device, self.host // sample_bytes)


class KeptPrefixes:
    """The prefixes of the first samples, each in the place that it was allocated once.

    Args:
        num_samples: Samples of the update.
        example: A prefix of any sample.
        room: What they may take.
    """

    def __init__(self, num_samples: int, example: PrefixCache, room: Room) -> None:
        sample_bytes = example.num_bytes // len(example)
        on_device, on_host = room.split(num_samples, sample_bytes)
        self._device = empty_cache(on_device, example)
        self._host = empty_cache(on_host, example, in_host_memory=True)

    def __len__(self) -> int:
        return len(self._device) + len(self._host)

    def put(self, start: int, prefixes: PrefixCache) -> None:
        """Keep the prefixes of samples from ``start`` on, as far as there is room."""
        first = 0
        for place in (self._device, self._host):
            offset = start - first
            begin, end = max(0, offset), min(len(place), offset + len(prefixes))
            if begin < end:
                place.write(slice(begin, end), prefixes.select(slice(begin - offset, end - offset)))
            first += len(place)

    def select(self, own_index: Indices, compute: Callable[[Indices], PrefixCache]) -> PrefixCache:
        """Return the prefixes of chosen samples, int64 [b]; those that are not kept are computed."""
        on_device = own_index < len(self._device)
        if on_device.all():
            return self._device.select(self._index(own_index))
        is_missing = own_index >= len(self)
        on_host = ~on_device & ~is_missing
        parts = [self._device.select(self._index(own_index[on_device]))] if on_device.any() else []
        if on_host.any():
            chosen = torch.from_numpy(own_index[on_host] - len(self._device))
            parts.append(self._host.select(chosen).to(self._device.is_valid.device))
        if is_missing.any():
            parts.append(compute(own_index[is_missing]))
        order = np.concatenate([np.flatnonzero(m) for m in (on_device, on_host, is_missing)])
        return join_caches(parts).select(self._index(np.argsort(order)))

    def _index(self, index: Indices) -> Tensor:
        return torch.from_numpy(index).to(self._device.is_valid.device)
