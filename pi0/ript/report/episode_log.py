"""``episodes.jsonl``: every rollout of a run, so that one can see which initial states were solved when."""

from collections.abc import Sequence
from pathlib import Path

from pi0.ript.report.jsonl import JsonLines
from pi0.ript.types import EpisodeRecord

EPISODES_NAME = "episodes.jsonl"


class EpisodeLog:
    """Appends the rollouts of a step; a resumed run drops and repeats those after its checkpoint."""

    def __init__(self, path: Path, *, last_step: int = 0) -> None:
        """Open ``path`` and drop the lines of steps after ``last_step``."""
        self._lines = JsonLines(path, last_step=last_step)

    def log(self, step: int, records: Sequence[EpisodeRecord]) -> None:
        """Append the rollouts of a step."""
        self._lines.append([{"step": step, **record.to_line()} for record in records])

    def close(self) -> None:
        """Close the file."""
        self._lines.close()
