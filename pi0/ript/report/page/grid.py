"""Which situations were mastered when: initial states x time, coloured by outcome."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_COLUMNS = 64
LETTERS = {"success": "s", "failure": "f", "crashed": "c"}

StateKey = tuple[str, int, int]


@dataclass(slots=True)
class _State:
    """An initial state and its outcomes by column, one letter per rollout in the order of practice."""

    task: str
    columns: dict[int, str] = field(default_factory=dict[int, str])
    mastered: int | None = None
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
            state.mastered = None
        elif state.mastered is None:
            state.mastered = row["step"]

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
                    "mastered": state.mastered,
                    "cells": {str(column): self._cell(s) for column, s in state.columns.items()},
                }
                for key, state in sorted(self._states.items())
            ],
        }

    def _cell(self, letters: str) -> str | list[int]:
        if self._width == 1:
            return letters
        return [letters.count(letter) for letter in LETTERS.values()]
