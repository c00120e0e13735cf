"""metrics.jsonl: one line per step, complete or absent."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

from pi0.ript.atomic import write_atomically

METRICS_NAME = "metrics.jsonl"


class JsonlReporter:
    """Appends one JSON object per step and flushes it at once.

    A figure that is not finite is written as ``null``: JSON has no NaN.
    """

    def __init__(self, path: Path, *, last_step: int = 0) -> None:
        """Open ``path``; lines of steps after ``last_step``, which a resumed run repeats, are dropped."""
        _keep_until(path, last_step)
        self._file = path.open("ab", buffering=0)

    def log(self, step: int, metrics: Mapping[str, float | str]) -> None:
        """Append the line of a step.

        Raises:
            OSError: The line could not be written; the file ends with the line before.
        """
        figures = {name: _json_value(value) for name, value in metrics.items()}
        line = (json.dumps({"step": step, **figures}, allow_nan=False) + "\n").encode()
        size = os.fstat(self._file.fileno()).st_size
        try:
            # A raw file may take only a part, e.g. just before the disk is full.
            while line:
                line = line[self._file.write(line) :]
        except OSError:
            os.ftruncate(self._file.fileno(), size)
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, float | str | None]]:
    """Return the lines of a metrics file; a torn last line, left by a killed process, is skipped."""
    return [json.loads(line) for line in _complete_lines(path)]


def _complete_lines(path: Path) -> list[bytes]:
    if not path.is_file():
        return []
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def _keep_until(path: Path, last_step: int) -> None:
    kept = b"".join(line for line in _complete_lines(path) if json.loads(line)["step"] <= last_step)
    if path.is_file() and path.stat().st_size != len(kept):
        write_atomically(path, kept)


def _json_value(value: float | str) -> float | str | None:
    return value if isinstance(value, str) or math.isfinite(value) else None
