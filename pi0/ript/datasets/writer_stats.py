"""``meta/stats.json`` of a LeRobotDataset: exact statistics of the whole set, one episode added after the other."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
LEVELS = 256


class SetStatistics:
    """Statistics of vectors and images of every frame."""

    def __init__(self) -> None:
        self._vectors: dict[str, list[NDArray[Any]]] = {}
        self._levels: dict[str, NDArray[np.int64]] = {}
        self._num_frames = 0

    def add(
        self, vectors: Mapping[str, NDArray[Any]], images: Mapping[str, NDArray[np.uint8]]
    ) -> None:
        """Add an episode.

        Args:
            vectors: By feature, [F] or [F, n].
            images: By feature, uint8 [F, height, width, 3].
        """
        for name, values in vectors.items():
            self._vectors.setdefault(name, []).append(values.reshape(len(values), -1))
            self._num_frames += len(values) if name == next(iter(vectors)) else 0
        for name, pixels in images.items():
            counts = self._levels.setdefault(name, np.zeros((3, LEVELS), np.int64))
            for channel in range(3):
                counts[channel] += np.bincount(pixels[..., channel].reshape(-1), minlength=LEVELS)

    def to_dict(self) -> dict[str, Any]:
        """Return the file's content; images in [0, 1], by channel [3][1][1]."""
        found: dict[str, dict[str, Any]] = {
            name: _of_vectors(np.concatenate(parts)) for name, parts in self._vectors.items()
        }
        for name, counts in self._levels.items():
            channels = [_of_levels(row) for row in counts]
            found[name] = {key: [[[one[key]]] for one in channels] for key in channels[0]}
        return {name: values | {"count": [self._num_frames]} for name, values in found.items()}


def _of_vectors(values: NDArray[Any]) -> dict[str, list[float]]:
    exact = values.astype(np.float64)
    rows = {
        "min": exact.min(0),
        "max": exact.max(0),
        "mean": exact.mean(0),
        "std": exact.std(0),
    } | {name: np.quantile(exact, share, axis=0) for name, share in QUANTILES.items()}
    return {name: row.tolist() for name, row in rows.items()}


def _of_levels(counts: NDArray[np.int64]) -> dict[str, float]:
    """Return the statistics of pixels of which ``counts[v]`` have the value v."""
    values, total = np.arange(LEVELS) / (LEVELS - 1), counts.sum()
    mean = float(values @ counts / total)
    there = np.flatnonzero(counts)
    ranks = np.cumsum(counts)
    return {
        "min": float(values[there[0]]),
        "max": float(values[there[-1]]),
        "mean": mean,
        "std": float(np.sqrt(((values - mean) ** 2) @ counts / total)),
    } | {
        name: float(values[np.searchsorted(ranks, share * (total - 1), side="right")])
        for name, share in QUANTILES.items()
    }
