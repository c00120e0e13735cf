"""What the charts of a page are drawn from, in columns, bins and a grid.

Metrics and rollouts of a run that may still be going on: read once, then only what was appended.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.report.episode_log import EPISODES_NAME, read_record
from pi0.ript.report.jsonl import METRICS_NAME, complete_lines, parse_whole, with_new_names

MAX_POINTS = 2000
MAX_BINS = 500
MAX_COLUMNS = 64
LETTERS = {"success": "s", "failure": "f", "crashed": "c"}
TRAINING_STAGES = ("time/collect_s", "time/update_s")
COUNTED = (*TRAINING_STAGES, "train/num_episodes")

T = TypeVar("T")
Line = Mapping[str, float | str | None]
Columns = dict[str, list[float | str | None]]
StateKey = tuple[str, int, int]


def to_columns(lines: Sequence[Line]) -> Columns:
    """Return one list per metric, all of one length; a metric that a step lacks is None there."""
    names = dict.fromkeys(name for line in lines for name in line)
    return {name: [line.get(name) for line in lines] for name in names}


def thinned(lines: Sequence[Line], most: int = MAX_POINTS) -> list[Line]:
    """Return every n-th line counted from the last one, n as small as ``most`` allows.

    Lines are left out, never averaged: every number shown is one that was logged.
    """
    every = -(-len(lines) // most) if lines else 1
    return list(lines[(len(lines) - 1) % every :: every]) if lines else []


class RolloutTally:
    """Counts rollouts by task and step; whenever steps get too many, neighbors are joined."""

    def __init__(self) -> None:
        self._width = 1
        self._bins: dict[str, dict[int, tuple[int, int]]] = {}

    def add(self, step: int, record: EpisodeRecord) -> None:
        """Count a rollout of a step, counted from 1; a crashed one is neither success nor failure."""
        if not record.is_complete:
            return
        while (step - 1) // self._width >= MAX_BINS:
            self._join()
        bins = self._bins.setdefault(record.task_label, {})
        number = (step - 1) // self._width
        successes, n = bins.get(number, (0, 0))
        bins[number] = successes + record.is_success, n + 1

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
    """An initial state and its outcomes by column, one letter per rollout in the order of the log."""

    task: str
    columns: dict[int, str] = field(default_factory=dict[int, str])
    solved: int | None = None
    visit: tuple[int, int] = (0, 0)
    visit_is_perfect: bool = False


class Grid:
    """Takes rollouts in order and keeps at most ``MAX_COLUMNS`` columns of them.

    A column is one step as long as they fit; whenever they no longer do, neighbors are joined.
    """

    def __init__(self) -> None:
        self._width = 1
        self._states: dict[StateKey, _State] = {}

    def add(self, step: int, record: EpisodeRecord) -> None:
        """Take a rollout of a step, counted from 1."""
        while (step - 1) // self._width >= MAX_COLUMNS:
            self._join()
        key = (record.suite, record.task_id, record.state_index)
        state = self._states.setdefault(key, _State(record.task_label))
        column = (step - 1) // self._width
        state.columns[column] = state.columns.get(column, "") + LETTERS[record.outcome]
        self._follow_visit(state, step, record)

    def _follow_visit(self, state: _State, step: int, record: EpisodeRecord) -> None:
        """Remember the latest step from which on every visit succeeded throughout."""
        visit = (step, record.group)
        is_new = visit != state.visit
        state.visit = visit
        state.visit_is_perfect = record.is_success and (is_new or state.visit_is_perfect)
        if not state.visit_is_perfect:
            state.solved = None
        elif state.solved is None:
            state.solved = step

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
                    "solved": state.solved,
                    "cells": {str(column): self._cell(s) for column, s in state.columns.items()},
                }
                for key, state in sorted(self._states.items())
            ],
        }

    def _cell(self, letters: str) -> str | list[int]:
        if self._width == 1:
            return letters
        return [letters.count(letter) for letter in LETTERS.values()]


class LineTail(Generic[T]):
    """Reads what has been appended to a file of JSON lines since the last call."""

    def __init__(self, path: Path, make: Callable[[dict[str, Any]], T]) -> None:
        """Read ``path`` from its beginning; ``make`` is called with the object of every line."""
        self._path = path
        self._make = make
        self._offset = 0
        self._num_lines = 0
        self.damage: list[str] = []

    def has_lost_lines(self) -> bool:
        """Return whether lines that were read are gone: a resumed run drops those it repeats."""
        size = self._path.stat().st_size if self._path.is_file() else 0
        return size < self._offset

    def read(self) -> list[T]:
        """Return what is made of the finished lines that were appended since the last call.

        What is wrong with lines that no run wrote is added to ``damage``.
        """
        lines = complete_lines(self._path, self._offset)
        parsed, damage = parse_whole(self._path, lines, self._make, first=self._num_lines + 1)
        self._offset += sum(len(line) for line in lines)
        self._num_lines += len(lines)
        self.damage += damage
        return parsed


class RunMetrics:
    """Metrics and rollouts of a run directory.

    Attributes:
        lines: Every line of metrics.jsonl under today's names, with ``minutes`` of training added.
        num_rollouts: Rollouts read.
        num_restarts: How often the run was resumed from an earlier step while it was watched.
    """

    def __init__(self, folder: Path) -> None:
        """Read what is there."""
        self._folder = folder
        self.num_restarts = 0
        self._begin()
        self.refresh()

    def _begin(self) -> None:
        self._metrics = LineTail(self._folder / METRICS_NAME, _metrics)
        self._rollouts = LineTail(self._folder / EPISODES_NAME, _rollout)
        self._grid = Grid()
        self._tally = RolloutTally()
        self.lines: list[Line] = []
        self.num_rollouts = 0

    def refresh(self) -> None:
        """Read what has been appended."""
        if self._metrics.has_lost_lines() or self._rollouts.has_lost_lines():
            self.num_restarts += 1
            self._begin()
        minutes = float(self.lines[-1]["minutes"] or 0) if self.lines else 0.0
        for line in self._metrics.read():
            minutes += sum(line.get(stage) or 0.0 for stage in TRAINING_STAGES) / 60
            self.lines.append(line | {"minutes": minutes})
        for step, record in self._rollouts.read():
            self._grid.add(step, record)
            self._tally.add(step, record)
            self.num_rollouts += 1

    @property
    def damage(self) -> list[str]:
        """Return what is wrong with lines that are left out."""
        return [*self._metrics.damage, *self._rollouts.damage]

    @property
    def num_steps(self) -> int:
        """Return the step of the last line."""
        return int(self.lines[-1]["step"] or 0) if self.lines else 0

    def last(self, name: str) -> float | str | None:
        """Return the newest value of a metric, None before the first step."""
        return self.lines[-1].get(name) if self.lines else None

    def columns(self) -> Columns:
        """Return the metrics as columns, thinned where there are many steps."""
        return to_columns(thinned(self.lines))

    def rollouts(self) -> dict[str, Any]:
        """Return what came of the rollouts by initial state and by task, ready for JSON."""
        return {"grid": self._grid.to_json(), "rollouts": self._tally.to_json()}


def _metrics(content: dict[str, Any]) -> dict[str, Any]:
    """Return a line of metrics.jsonl under today's names."""
    line = with_new_names(content)
    for name, value in line.items():
        if isinstance(value, list | dict) or (name in COUNTED and isinstance(value, str)):
            raise ValueError(f"{name} {value!r:.40}")
    return line


def _rollout(content: dict[str, Any]) -> tuple[int, EpisodeRecord]:
    """Return step and record of a line of episodes.jsonl."""
    if content["step"] < 1:
        raise ValueError(f"step {content['step']}")
    return content["step"], read_record({n: content[n] for n in content if n != "step"})
