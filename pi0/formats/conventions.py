"""What statistics reveal about the actions of a policy, against what its card says.

A wrong switch costs all success and looks like a bad policy, so a contradiction is refused.
"""

from pathlib import Path

import numpy as np

from pi0.card import PolicyCard
from pi0.codec import DELTA_DIMS, GRIPPER
from pi0.norm_stats import NormStats, Statistics

_ROUNDING = (
    0.02  # of means, deviations and quantiles that were computed in single precision or bins
)


def check_conventions(folder: Path, card: PolicyCard, stats: NormStats) -> None:
    """Raise ValueError where the statistics contradict ``extra_delta`` or ``gripper``."""
    _check_extra_delta(folder, card, stats)
    _check_gripper(folder, card, stats)


def _check_extra_delta(folder: Path, card: PolicyCard, stats: NormStats) -> None:
    """Compare means; actions of LIBERO are within [-1, 1].

    Means of relative actions are the means of actions minus those of states, which lie outside
    [-1, 1] because the gripper points down (axis-angle near pi).
    """
    if "mean" not in stats.actions or "mean" not in stats.state:
        return
    actions = stats.actions["mean"][:DELTA_DIMS]
    as_given, as_relative = actions, actions + stats.state["mean"][:DELTA_DIMS]
    fits = {False: _is_action(as_given), True: _is_action(as_relative)}
    if fits[card.extra_delta] or not fits[not card.extra_delta]:
        return
    worst = int(np.abs(as_relative if card.extra_delta else as_given).argmax())
    kind = "absolute" if card.extra_delta else "relative to the state"
    raise ValueError(
        f"{folder}: extra_delta is {str(card.extra_delta).lower()}, but the statistics are those of "
        f"actions {kind} (mean of action {worst}: {actions[worst]:.3f}); "
        f"set policy.overrides.extra_delta={str(not card.extra_delta).lower()}"
    )


def _is_action(means: np.ndarray) -> bool:
    return bool((np.abs(means) <= 1.0).all())


def _check_gripper(folder: Path, card: PolicyCard, stats: NormStats) -> None:
    found = gripper_range(stats.actions)
    expected = (-1, 1) if card.gripper == "libero" else (0, 1)
    if found in (None, expected):
        return
    signs = ", ".join(
        f"{name} {values[GRIPPER]:.3f}" for name, values in sorted(stats.actions.items())
    )
    remedy = (
        "set policy.overrides.gripper=one_opens (data that came through RLDS) or one_closes"
        if expected == (-1, 1)
        else "set policy.overrides.gripper=libero"
    )
    raise ValueError(
        f"{folder}: gripper is {card.gripper}, which is {expected[0]} to {expected[1]}, but the "
        f"statistics are those of a gripper of {found[0]} to {found[1]} ({signs}); {remedy}"
    )


def gripper_range(actions: Statistics) -> tuple[int, int] | None:
    """Return the two values that the gripper has in the data, None if the statistics do not tell.

    Data of LIBERO hold nothing between the two: for -1 and +1 the mean of squares is 1, for 0 and 1 it
    is the mean.
    """
    values = {name: float(vector[GRIPPER]) for name, vector in actions.items()}
    lows = [values[name] for name in ("min", "q01", "q10") if name in values]
    highs = [values[name] for name in ("max", "q99", "q90") if name in values]
    mean, std = values.get("mean"), values.get("std")
    if any(low < -0.5 for low in lows) or (mean is not None and mean < -_ROUNDING):
        return (-1, 1)
    if lows and highs and abs(min(lows)) <= _ROUNDING and abs(max(highs) - 1.0) <= _ROUNDING:
        return (0, 1)
    if mean is None or std is None or mean > 1.0 - 2 * _ROUNDING:
        return None  # a gripper that always closes looks the same in both
    squares = mean * mean + std * std
    if abs(squares - 1.0) <= _ROUNDING:
        return (-1, 1)
    return (0, 1) if abs(squares - mean) <= _ROUNDING and mean > 2 * _ROUNDING else None
