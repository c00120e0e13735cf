"""Successes of practice by task over time, in at most ``MAX_BINS`` bins of steps."""

from collections.abc import Mapping
from typing import Any

MAX_BINS = 500


class PracticeTally:
    """Counts practice episodes by task and step; whenever steps get too many, neighbours are joined."""

    def __init__(self) -> None:
        self._width = 1
        self._bins: dict[str, dict[int, tuple[int, int]]] = {}

    def add(self, row: Mapping[str, Any]) -> None:
        """Take a line of episodes.jsonl; crashed episodes are neither success nor failure."""
        if row["outcome"] == "crashed":
            return
        while (row["step"] - 1) // self._width >= MAX_BINS:
            self._join()
        bins = self._bins.setdefault(f"{row['suite']}/{row['task_id']} {row['task']}", {})
        number = (row["step"] - 1) // self._width
        successes, n = bins.get(number, (0, 0))
        bins[number] = successes + (row["outcome"] == "success"), n + 1

    def _join(self) -> None:
        self._width *= 2
        for task, bins in self._bins.items():
            joined: dict[int, tuple[int, int]] = {}
            for number, (successes, n) in bins.items():
                others = joined.get(number // 2, (0, 0))
                joined[number // 2] = successes + others[0], n + others[1]
            self._bins[task] = joined

    def to_json(self) -> dict[str, list[list[int]]]:
        """Return ``[last step, successes, episodes]`` of every bin by task, in order."""
        return {
            task: [[(number + 1) * self._width, *bins[number]] for number in sorted(bins)]
            for task, bins in self._bins.items()
        }
