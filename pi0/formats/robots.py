"""Whose robot states and actions of some widths belong to."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pi0.norm_stats import STATISTIC_NAMES

_ALOHA = "ALOHA (two arms of six joints and their grippers)"
_SO_100 = "SO-100 or SO-101 (five joints and a gripper)"
_BY_STATE = {14: _ALOHA, 6: _SO_100}
_BY_ACTION = {14: _ALOHA, 6: _SO_100, 8: "DROID (seven joints of a Franka and its gripper)"}


def robot_of(state: int | None, action: int | None) -> str:
    """Return the name of the robot whose states and actions have so many numbers."""
    return _BY_ACTION.get(action or 0) or _BY_STATE.get(state or 0, "another robot")


def real_width(group: Any, padded: int, libero: int) -> int | None:
    """Return how many numbers of a group of statistics are not padding.

    Args:
        group: Name of a statistic -> list of numbers.
        padded: The width of the network, to which shorter ones are padded with zeros.
        libero: The width that LIBERO has; padded statistics of fewer numbers count as so many.

    Returns:
        None if the statistics differ in length or are no lists of numbers.
    """
    if not isinstance(group, Mapping):
        return None
    try:
        vectors = {
            name: np.asarray(group[name], np.float64)
            for name in STATISTIC_NAMES
            if group.get(name) is not None
        }
    except (TypeError, ValueError):
        return None
    lengths = {vector.shape for vector in vectors.values()}
    if len(lengths) != 1 or len(shape := lengths.pop()) != 1:
        return None
    if shape[0] != padded:
        return shape[0]
    return max(libero, *(np.flatnonzero(_moves(vectors, padded)) + 1).tolist(), 0)


def _moves(vectors: Mapping[str, np.ndarray], width: int) -> np.ndarray:
    """Return which numbers are not constant zeros; a spread of 1 is padding that divides by nothing."""
    moves = np.zeros(width, bool)
    if "mean" in vectors:
        moves |= np.abs(vectors["mean"]) > 1e-6
    if "std" in vectors:
        moves |= (vectors["std"] > 1e-6) & (vectors["std"] != 1.0)
    for low, high in (("q01", "q99"), ("q10", "q90"), ("min", "max")):
        if low in vectors and high in vectors and "std" not in vectors:
            moves |= vectors[high] - vectors[low] > 1e-6
    return moves
