"""Normalization statistics of demonstrations, exact, of what the network is given: after the relative actions."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pi0.card import ENV_ACTION_DIM, PolicyCard
from pi0.codec import Codec, raw_state
from pi0.norm_stats import NormStats, Statistics
from pi0.ript.datasets.frames import Frames, Indices

MIN_STD = 1e-2
QUANTILES = {"q01": 0.01, "q10": 0.10, "q90": 0.90, "q99": 0.99}
BLOCK = 8192  # frames whose action chunks are in memory at once

Values = NDArray[np.float64]


def compute_stats(frames: Frames, groups: Sequence[Indices], card: PolicyCard) -> NormStats:
    """Return statistics of states and of all actions of all chunks, as openpi counts them.

    Mean and std weigh every group the same; quantiles, least and largest values are those of all frames. A spread
    below 0.01 is widened to it: what hardly changes would be blown up to unit size by its own tiny std.

    Args:
        frames: The data set.
        groups: Frames, int64 each: one group for all frames alike, one per task for all tasks alike.
        card: Says how states are encoded and what actions are relative to.
    """
    states = [raw_state(frames.proprio[group], card.state_encoding) for group in groups]
    actions = [np.concatenate(list(_actions(frames, group, card))) for group in groups]
    return NormStats(state=_statistics(states), actions=_statistics(actions))


def groups_by_task(frames: Frames, chosen: Indices) -> list[Indices]:
    """Return the chosen frames of every task that has some, in the order of tasks."""
    groups = [chosen[frames.task_index[chosen] == task] for task in range(len(frames.tasks))]
    return [group for group in groups if len(group)]


def _actions(frames: Frames, group: Indices, card: PolicyCard) -> Iterator[Values]:
    """Yield the actions of the chunks, [n, 7], as the network is to predict them but not normalized."""
    codec = Codec(card=card, stats=NormStats(state={}, actions={}))
    for start in range(0, len(group), BLOCK):
        some = group[start : start + BLOCK]
        chunks = frames.read_chunks(some, card.horizon)
        yield codec.relative_actions(chunks, frames.proprio[some]).reshape(-1, ENV_ACTION_DIM)


def _statistics(parts: Sequence[Values]) -> Statistics:
    mean = np.mean([part.mean(0, dtype=np.float64) for part in parts], axis=0)
    variance = np.mean([((part - mean) ** 2).mean(0) for part in parts], axis=0)
    everything = parts[0] if len(parts) == 1 else np.concatenate(parts)
    # one number after the other: sorting is what takes memory
    found = {
        name: np.array([np.quantile(column, share) for column in everything.T])
        for name, share in QUANTILES.items()
    }
    found |= {"min": everything.min(0), "max": everything.max(0)}
    for low, high in (("q01", "q99"), ("q10", "q90"), ("min", "max")):
        found[low], found[high] = _widened(found[low], found[high])
    return {"mean": mean, "std": np.maximum(np.sqrt(variance), MIN_STD), **found}


def _widened(low: Values, high: Values) -> tuple[Values, Values]:
    missing = np.maximum(0.0, 2 * MIN_STD - (high - low)) / 2
    return low - missing, high + missing
