"""Normalization statistics: what they hold, how they are applied, and openpi's file of them.

Statistics without a mode are worthless: the same file means different numbers under z-scores and
quantiles, and openpi and LeRobot add different epsilons. Both are part of the policy card.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pi0.card import ENV_ACTION_DIM, NormFormula, NormMode, PolicyCard
from pi0.files import is_there, read_json

Statistics = Mapping[str, NDArray[np.float64]]

STATISTIC_NAMES = ("mean", "std", "q01", "q99", "q10", "q90", "min", "max")
# The two statistics each mode needs: (shift, scale) for z-scores, (low, high) for the others.
NEEDED: dict[NormMode, tuple[str, str]] = {
    "z_score": ("mean", "std"),
    "quantile": ("q01", "q99"),
    "quantile10": ("q10", "q90"),
    "min_max": ("min", "max"),
}
EPSILON = 1e-6  # openpi's, in both directions
LEROBOT_EPSILON = 1e-8  # z-scores only, and only towards the model


@dataclass(frozen=True, slots=True, kw_only=True)
class NormStats:
    """Statistics of states and actions, real dims only.

    With ``extra_delta`` the action statistics are those of the relative actions.

    Example: ``NormStats(state={"mean": m, "std": s}, actions={"mean": n, "std": t})``.

    Attributes:
        state: Name of the statistic (see ``STATISTIC_NAMES``) -> float64 [8] or [11].
        actions: Name of the statistic -> float64 [7].
    """

    state: Statistics
    actions: Statistics

    def to_json(self) -> str:
        """Return openpi's ``norm_stats.json``."""
        groups = {
            group: {
                name: statistics[name].tolist() for name in STATISTIC_NAMES if name in statistics
            }
            for group, statistics in (("state", self.state), ("actions", self.actions))
        }
        return json.dumps({"norm_stats": groups}, indent=2) + "\n"

    @property
    def digest(self) -> str:
        """Return a short hash that is equal exactly where all statistics are equal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]


def normalize(
    values: NDArray[np.float64], statistics: Statistics, mode: NormMode, formula: NormFormula
) -> NDArray[np.float64]:
    """Return values [..., n] in the model's units."""
    first, second = (statistics[name] for name in NEEDED[mode])
    if mode == "z_score":
        return (values - first) / (second + (EPSILON if formula == "openpi" else LEROBOT_EPSILON))
    return (values - first) / (second - first + _width_epsilon(formula)) * 2.0 - 1.0


def unnormalize(
    values: NDArray[np.float64], statistics: Statistics, mode: NormMode, formula: NormFormula
) -> NDArray[np.float64]:
    """Return values [..., n] in the simulator's units."""
    first, second = (statistics[name] for name in NEEDED[mode])
    if mode == "z_score":
        return values * (second + _width_epsilon(formula)) + first
    return (values + 1.0) / 2.0 * (second - first + _width_epsilon(formula)) + first


def read_norm_stats(path: Path, card: PolicyCard) -> NormStats:
    """Read openpi's ``norm_stats.json``; lengths padded to the model's width are cut."""
    if not is_there(path):
        raise FileNotFoundError(
            f"{path} does not exist; a policy cannot run without its normalization statistics, "
            "set norm_stats_path to openpi's norm_stats.json"
        )
    raw = read_json(path)
    return check_norm_stats(raw.get("norm_stats"), card, f"{path}: norm_stats.")


def check_norm_stats(raw: Any, card: PolicyCard, where: str) -> NormStats:
    """Return statistics from ``{"state": {"mean": [...], ...}, "actions": {...}}``, checked.

    Args:
        raw: Parsed JSON or tensors of any origin.
        card: Says how many dims are real and which statistics its mode needs.
        where: Begin of every message: the file and the path of the group in it.
    """
    return NormStats(
        state=_statistics(raw, "state", card.state_width, card, where),
        actions=_statistics(raw, "actions", ENV_ACTION_DIM, card, where),
    )


def _statistics(raw: Any, group: str, width: int, card: PolicyCard, where: str) -> Statistics:
    padded = card.state_dim if group == "state" else card.action_dim
    found = raw.get(group) if isinstance(raw, Mapping) else None
    found = found if isinstance(found, Mapping) else {}
    needed = NEEDED[card.norm_mode]
    statistics = {
        name: _vector(found[name], width, padded, f"{where}{group}.{name}")
        for name in STATISTIC_NAMES
        if found.get(name) is not None
    }
    for name in needed:
        if name not in statistics:
            raise ValueError(
                f"{where}{group}.{name} must be a list of numbers, it is missing; "
                f"norm_mode {card.norm_mode} needs {' and '.join(needed)}"
            )
    spread = statistics[needed[1]] - (0.0 if card.norm_mode == "z_score" else statistics[needed[0]])
    if not (spread > 0).all():
        wrong = int(np.argmin(spread))
        what = "std" if card.norm_mode == "z_score" else f"{needed[1]} - {needed[0]}"
        raise ValueError(
            f"{where}{group}.{what} must be > 0, got {spread[wrong]} at position {wrong}; "
            "a number that never changes cannot be normalized, bring complete statistics"
        )
    return statistics


def _vector(values: Any, width: int, padded: int, where: str) -> NDArray[np.float64]:
    try:
        vector = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{where} must be a list of numbers, got {values!r:.60}") from None
    if vector.shape not in {(width,), (padded,)}:
        raise ValueError(
            f"{where} has shape {vector.shape}, allowed lengths: {width} or {padded} (padded); "
            "bring the statistics of LIBERO's states and actions"
        )
    if not np.isfinite(vector[:width]).all():
        raise ValueError(f"{where} holds NaN or infinity; compute the statistics again")
    return vector[:width]


def _width_epsilon(formula: NormFormula) -> float:
    return EPSILON if formula == "openpi" else 0.0
