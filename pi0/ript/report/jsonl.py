"""metrics.jsonl: one line per step, complete or absent."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar

from pi0.files import write_atomically

METRICS_NAME = "metrics.jsonl"

RENAMED_METRICS = {
    "time/practice_s": "time/rollout_s",
    "time/worker_film_s": "time/worker_video_s",
    "speed/policy_batch_rows": "speed/policy_batch_samples",
}
"""Old name -> new name. Files of earlier versions hold the old ones; every reader returns the new ones."""

MEND = "; mend it or move the file away"

T = TypeVar("T")
JsonValue = float | str | bool | None | Mapping[str, "JsonValue"] | Sequence["JsonValue"]


class JsonLines:
    """A file of JSON objects, each with the ``step`` it belongs to; what is appended is flushed at once."""

    def __init__(self, path: Path, *, last_step: int = 0) -> None:
        """Open ``path``; lines of steps after ``last_step``, which a resumed run repeats, are dropped."""
        _keep_until(path, last_step)
        self._file = path.open("ab", buffering=0)

    def append(self, records: Sequence[Mapping[str, JsonValue]]) -> None:
        """Append one line per record.

        Raises:
            OSError: The lines could not be written; the file ends where it did before.
        """
        append_lines(self._file, records)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class JsonlReporter:
    """Appends one JSON object per step and flushes it at once.

    A number that is not finite is written as ``null``: JSON has no NaN.
    """

    def __init__(self, path: Path, *, last_step: int = 0) -> None:
        """Open ``path``; lines of steps after ``last_step``, which a resumed run repeats, are dropped."""
        self._lines = JsonLines(path, last_step=last_step)

    def log(self, step: int, metrics: Mapping[str, float | str]) -> None:
        """Append the line of a step.

        Raises:
            OSError: The line could not be written; the file ends with the line before.
        """
        values = {name: _json_value(value) for name, value in metrics.items()}
        self._lines.append([{"step": step, **values}])

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


def read_metrics(path: Path) -> list[dict[str, float | str | None]]:
    """Return the lines of a metrics file under today's names of metrics.

    A torn last line, left by a killed process, is skipped.

    Raises:
        ValueError: A line was not written by a run.
    """
    lines = enumerate(complete_lines(path), 1)
    return [parse_line(path, n, line, with_new_names) for n, line in lines if line.strip()]


def with_new_names(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line of metrics with the new names of metrics that were renamed."""
    return {RENAMED_METRICS.get(name, name): value for name, value in line.items()}


def append_lines(file: FileIO, records: Sequence[Mapping[str, JsonValue]]) -> None:
    """Append one line per record to an unbuffered file.

    Raises:
        OSError: The lines could not be written, with the name of the file, which ends where it did before;
            if not even that can be had, it ends with a torn line, which readers skip.
    """
    data = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records).encode()
    size = os.fstat(file.fileno()).st_size
    try:
        # A raw file may take only a part, e.g. just before the disk is full.
        while data:
            data = data[file.write(data) :]
    except OSError as error:
        with suppress(OSError):  # a disk that has become read-only takes nothing back either
            os.ftruncate(file.fileno(), size)
        raise OSError(error.errno, error.strerror, str(file.name)) from None


def complete_lines(path: Path, offset: int = 0) -> list[bytes]:
    """Return the finished lines of a file from a byte on; none if there is no such file."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(offset)
        return [line for line in file.readlines() if line.endswith(b"\n")]


def parse_whole(
    path: Path, lines: Sequence[bytes], make: Callable[[dict[str, Any]], T], *, first: int = 1
) -> tuple[list[T], list[str]]:
    """Return what ``make`` makes of the lines that a run wrote, and what is wrong with the others.

    Args:
        path: The file, for the reasons.
        lines: Its lines, or those from ``first`` on; a blank one holds nothing.
        make: See ``parse_line``.
        first: Number of the first line, counted from 1.
    """
    parsed: list[T] = []
    damage: list[str] = []
    for number, line in enumerate(lines, first):
        if not line.strip():
            continue
        try:
            parsed.append(parse_line(path, number, line, make))
        except ValueError as error:
            damage.append(str(error).removesuffix(MEND))
    return parsed, damage


def parse_line(path: Path, number: int, line: bytes, make: Callable[[dict[str, Any]], T]) -> T:
    """Return what ``make`` makes of the JSON object in a line, which has the ``step`` it belongs to.

    Args:
        path: The file, for the message.
        number: Of the line, counted from 1.
        line: Its bytes.
        make: Takes the object; whatever it cannot use is an error of the file.

    Raises:
        ValueError: It is no line that a run writes.
    """
    try:
        content = json.loads(line.decode())  # bytes that begin with NULs would count as UTF-32
        if type(content["step"]) is int:
            return make(content)
        reason = f"step {content['step']!r:.40}"
    except KeyError as error:
        reason = f"it lacks {error}"
    except (ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
    raise ValueError(f"{path} line {number} was not written by a run ({reason}){MEND}")


def _keep_until(path: Path, last_step: int) -> None:
    lines = complete_lines(path)
    kept = b"".join(
        line
        for n, line in enumerate(lines, 1)
        if line.strip() and parse_line(path, n, line, dict)["step"] <= last_step
    )
    if path.is_file() and path.stat().st_size != len(kept):
        write_atomically(path, kept)


def _json_value(value: float | str) -> float | str | None:
    return value if isinstance(value, str) or math.isfinite(value) else None
