"""``episodes.jsonl``: the settings of an evaluation, then one line per finished episode.

The file only grows, a line at a time. Whatever kills the program, the lines that are there are
whole, and the same command goes on with the episodes that are not.
"""

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pi0.ript.episode_record import EpisodeKey, EpisodeRecord
from pi0.ript.evaluation.episodes import request_key
from pi0.ript.report.jsonl import append_lines, complete_lines
from pi0.ript.types import EpisodeRequest

LOG_NAME = "episodes.jsonl"

Settings = Mapping[str, Any]
"""Everything that the outcome of an episode may depend on, as JSON values."""


class EvaluationLog:
    """The finished episodes of an evaluation, on disk as soon as they are known."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        """Begin a log, or go on with the one of an interrupted evaluation.

        A crashed episode counts as not done: going on tries it once more, and its later line wins.

        Raises:
            ValueError: The folder holds an evaluation with other settings (names them), or another
                program is writing it.
        """
        self._made = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / LOG_NAME
        self._file = self._path.open("ab", buffering=0)
        try:
            self._lock()
            self.records = self._begin(json.loads(json.dumps(dict(settings))))
        except BaseException:
            self._file.close()
            raise

    def missing(self, requests: Sequence[EpisodeRequest]) -> list[EpisodeRequest]:
        """Return the episodes that are still to be done."""
        return [request for request in requests if not self._is_done(request_key(request))]

    def add(self, record: EpisodeRecord) -> None:
        """Append the line of a finished episode.

        Raises:
            OSError: It could not be written; the file ends with the line before.
        """
        append_lines(self._file, [record.to_dict()])
        self.records[record.key] = record

    def close(self) -> None:
        """Close the file and let others write it; of a log without an episode nothing stays behind."""
        if not self.records:
            self._path.unlink(missing_ok=True)
            with suppress(OSError):  # another program may have put something there meanwhile
                for folder in self._made:
                    folder.rmdir()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _is_done(self, key: EpisodeKey) -> bool:
        return key in self.records and self.records[key].is_complete

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another program is writing {self._path}; wait for it or choose another --output_dir"
            ) from None

    def _begin(self, settings: Settings) -> dict[EpisodeKey, EpisodeRecord]:
        lines = complete_lines(self._path)
        # A killed program may leave half a line.
        os.ftruncate(self._file.fileno(), sum(len(line) for line in lines))
        if not lines:
            append_lines(self._file, [{"settings": settings}])
            return {}
        earlier, records = _parse(self._path, lines)
        names = differing(earlier, settings)
        if names:
            raise ValueError(
                f"{self._path} is an evaluation with other settings: {'; '.join(names)}; "
                "repeat its settings to go on, or choose another --output_dir"
            )
        return {record.key: record for record in records}


def read_log(path: Path) -> tuple[dict[str, Any], list[EpisodeRecord]]:
    """Return the settings and the episodes of an evaluation; of a repeated episode the last line.

    Raises:
        ValueError: The file is no such log.
    """
    settings, records = _parse(path, complete_lines(path))
    return settings, list({record.key: record for record in records}.values())


def differing(one: Settings, other: Settings) -> list[str]:
    """Return one phrase per setting that differs, e.g. ``seed is 42, not 43``; cards key by key."""
    phrases: list[str] = []
    for name in dict.fromkeys([*one, *other]):
        left, right = one.get(name), other.get(name)
        if isinstance(left, dict) and isinstance(right, dict):
            phrases += [f"{name}.{phrase}" for phrase in differing(left, right)]
        elif left != right:
            phrases.append(f"{name} is {_short(left)}, not {_short(right)}")
    return phrases


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _parse(path: Path, lines: Sequence[bytes]) -> tuple[dict[str, Any], list[EpisodeRecord]]:
    try:
        first, *rest = [json.loads(line) for line in lines]
        return first["settings"], [EpisodeRecord(**record) for record in rest]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} does not hold the episodes of an evaluation ({error}); "
            "choose another file or --output_dir"
        ) from None
