"""Figures of many steps as columns, thinned so that a page of 10,000 steps stays small and quick."""

from collections.abc import Mapping, Sequence

MAX_POINTS = 2000

Columns = dict[str, list[float | str | None]]


def to_columns(lines: Sequence[Mapping[str, float | str | None]]) -> Columns:
    """Return one list per figure, all of one length; a figure that a step lacks is None there."""
    names = dict.fromkeys(name for line in lines for name in line)
    return {name: [line.get(name) for line in lines] for name in names}


def thinned(
    lines: Sequence[Mapping[str, float | str | None]], most: int = MAX_POINTS
) -> list[Mapping[str, float | str | None]]:
    """Return every n-th line counted from the last one, n as small as ``most`` allows.

    Figures are left out, never averaged: each one shown is one that was logged.
    """
    every = -(-len(lines) // most) if lines else 1
    return list(lines[(len(lines) - 1) % every :: every]) if lines else []
