"""The figures of a run that may still be going on: read once, then only what was appended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pi0.ript.report.episode_log import EPISODES_NAME
from pi0.ript.report.jsonl import METRICS_NAME, complete_lines, parse_line, with_new_names

MAX_POINTS = 2000
EPISODE_NAMES = ("step", "suite", "task_id", "task", "state_index", "group", "outcome")

Columns = dict[str, list[float | str | None]]

MAX_BINS = 500

MAX_COLUMNS = 64
LETTERS = {"success": "s", "failure": "f", "crashed": "c"}

StateKey = tuple[str, int, int]

PRACTICE_STAGES = ("time/collect_s", "time/update_s")

Line = Mapping[str, float | str | None]


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


@dataclass(slots=True)
class _State:
    """An initial state and its outcomes by column, one letter per rollout in the order of practice."""

    task: str
    columns: dict[int, str] = field(default_factory=dict[int, str])
    solved: int | None = None
    visit: tuple[int, int] = (0, 0)
    visit_is_perfect: bool = False


class Grid:
    """Takes practice episodes in order and keeps at most ``MAX_COLUMNS`` columns of them.

    A column is one step as long as they fit; whenever they no longer do, neighbours are joined.
    """

    def __init__(self) -> None:
        self._width = 1
        self._states: dict[StateKey, _State] = {}

    def add(self, row: Mapping[str, Any]) -> None:
        """Take a line of episodes.jsonl."""
        while (row["step"] - 1) // self._width >= MAX_COLUMNS:
            self._join()
        key = (row["suite"], row["task_id"], row["state_index"])
        label = f"{row['suite']}/{row['task_id']} {row['task']}"
        state = self._states.setdefault(key, _State(label))
        column = (row["step"] - 1) // self._width
        state.columns[column] = state.columns.get(column, "") + LETTERS[row["outcome"]]
        self._follow_visit(state, row)

    def _follow_visit(self, state: _State, row: Mapping[str, Any]) -> None:
        """Remember the latest step from which on every visit succeeded throughout."""
        is_success, visit = row["outcome"] == "success", (row["step"], row["group"])
        is_new = visit != state.visit
        state.visit = visit
        state.visit_is_perfect = is_success and (is_new or state.visit_is_perfect)
        if not state.visit_is_perfect:
            state.solved = None
        elif state.solved is None:
            state.solved = row["step"]

    def _join(self) -> None:
        self._width *= 2
        for state in self._states.values():
            joined: dict[int, str] = {}
            for column, letters in sorted(state.columns.items()):
                joined[column // 2] = joined.get(column // 2, "") + letters
            state.columns = joined

    def to_json(self) -> dict[str, Any]:
        """Return the grid for the page: rows by task and state, cells as strings of outcomes.

        Cells of several steps are shortened to counts, ``[successes, failures, crashed]``.
        """
        return {
            "width": self._width,
            "rows": [
                {
                    "task": state.task,
                    "state": key[2],
                    "mastered": state.solved,
                    "cells": {str(column): self._cell(s) for column, s in state.columns.items()},
                }
                for key, state in sorted(self._states.items())
            ],
        }

    def _cell(self, letters: str) -> str | list[int]:
        if self._width == 1:
            return letters
        return [letters.count(letter) for letter in LETTERS.values()]


class LineTail:
    """Reads what has been appended to a file of lines since the last call."""

    def __init__(self, path: Path, needs: Sequence[str] = ("step",)) -> None:
        """Read ``path`` from its beginning; every line must have what it ``needs``."""
        self._path = path
        self._needs = needs
        self._offset = 0
        self._num_lines = 0

    def has_lost_lines(self) -> bool:
        """Return whether lines that were read are gone: a resumed run drops those it repeats."""
        size = self._path.stat().st_size if self._path.is_file() else 0
        return size < self._offset

    def read(self) -> list[dict[str, Any]]:
        """Return the finished lines appended since the last call, parsed.

        Raises:
            ValueError: A line was not written by a run.
        """
        lines = complete_lines(self._path, self._offset)
        numbered = enumerate(lines, self._num_lines + 1)
        parsed = [parse_line(self._path, number, line, self._needs) for number, line in numbered]
        self._offset += sum(len(line) for line in lines)
        self._num_lines += len(lines)
        return parsed


class RunFigures:
    """Metrics and practice episodes of a run directory.

    Attributes:
        lines: Every line of metrics.jsonl, with ``minutes`` of practice added.
        num_episodes: Practice episodes read.
        num_restarts: How often the run was resumed from an earlier step while it was watched.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.num_restarts = 0
        self._begin()
        self.refresh()

    def _begin(self) -> None:
        self._metrics = LineTail(self._folder / METRICS_NAME)
        self._episodes = LineTail(self._folder / EPISODES_NAME, EPISODE_NAMES)
        self._grid = Grid()
        self._practice = PracticeTally()
        self.lines: list[Line] = []
        self.num_episodes = 0

    def refresh(self) -> None:
        """Read what has been appended."""
        if self._metrics.has_lost_lines() or self._episodes.has_lost_lines():
            self.num_restarts += 1
            self._begin()
        minutes = float(self.lines[-1]["minutes"] or 0) if self.lines else 0.0
        for line in map(with_new_names, self._metrics.read()):
            minutes += sum(line.get(stage) or 0.0 for stage in PRACTICE_STAGES) / 60
            self.lines.append(line | {"minutes": minutes})
        for row in self._episodes.read():
            self._grid.add(row)
            self._practice.add(row)
            self.num_episodes += 1

    @property
    def num_steps(self) -> int:
        """Return the step of the last line."""
        return int(self.lines[-1]["step"] or 0) if self.lines else 0

    def last(self, name: str) -> float | str | None:
        """Return the newest value of a figure, None before the first step."""
        return self.lines[-1].get(name) if self.lines else None

    def columns(self) -> dict[str, list[float | str | None]]:
        """Return the figures as columns, thinned where there are many steps."""
        return to_columns(thinned(self.lines))

    def situations(self) -> dict[str, Any]:
        """Return what the practice episodes say, ready for JSON."""
        return {"grid": self._grid.to_json(), "practice": self._practice.to_json()}
