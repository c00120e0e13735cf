"""``episodes.jsonl``: every rollout of a run, so that one can see which initial states were solved when."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.report.jsonl import JsonLines
from pi0.ript.types import Outcome

EPISODES_NAME = "episodes.jsonl"
OUTCOMES = get_args(Outcome)
# What pages sort, count and label by.
_KINDS = {
    "suite": str,
    "task_id": int,
    "task": str,
    "state_index": int,
    "seed": int,
    "num_steps": int,
}


def read_record(content: Mapping[str, Any]) -> EpisodeRecord:
    """Return the record of an episode that a file holds.

    Raises:
        TypeError: A field is missing, or there is one that is unknown.
        ValueError: A field holds what no episode has; names it.
    """
    record = EpisodeRecord(**content)
    for name, kind in _KINDS.items():
        if type(value := getattr(record, name)) is not kind:
            raise ValueError(f"{name} {value!r:.40}")
    if record.outcome not in OUTCOMES:
        raise ValueError(f"outcome {record.outcome!r:.40}")
    return record


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
