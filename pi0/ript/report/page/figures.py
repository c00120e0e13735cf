"""The figures of a run that may still be going on: read once, then only what was appended."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pi0.ript.report.episode_log import EPISODES_NAME
from pi0.ript.report.jsonl import METRICS_NAME, complete_lines
from pi0.ript.report.page.columns import thinned, to_columns
from pi0.ript.report.page.grid import Grid
from pi0.ript.report.page.practice import PracticeTally

PRACTICE_STAGES = ("time/collect_s", "time/update_s")

Line = Mapping[str, float | str | None]


class LineTail:
    """Reads what has been appended to a file of lines since the last call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def has_lost_lines(self) -> bool:
        """Return whether lines that were read are gone: a resumed run drops those it repeats."""
        size = self._path.stat().st_size if self._path.is_file() else 0
        return size < self._offset

    def read(self) -> list[dict[str, Any]]:
        """Return the finished lines appended since the last call, parsed."""
        lines = complete_lines(self._path, self._offset)
        self._offset += sum(len(line) for line in lines)
        return [json.loads(line) for line in lines]


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
        self._episodes = LineTail(self._folder / EPISODES_NAME)
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
        for line in self._metrics.read():
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
