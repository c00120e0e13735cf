"""Which of the processes that train together this one is, and the single process, which is rank 0 of 1."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class RankInfo:
    """What torchrun tells a process about itself and the others.

    Attributes:
        rank: Which of all processes.
        world_size: How many there are.
        local_rank: Which of the processes on this host; also its GPU.
        local_world_size: How many there are on this host.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """Read what torchrun sets; a process that torchrun did not start is rank 0 of 1.

        Raises:
            ValueError: A variable is missing or no number.
        """
        if "RANK" not in environ and "WORLD_SIZE" not in environ:
            return cls()
        names = {"rank": "RANK", "world_size": "WORLD_SIZE", "local_rank": "LOCAL_RANK"}
        numbers = {name: _number(environ, variable) for name, variable in names.items()}
        local = _number(environ, "LOCAL_WORLD_SIZE") if "LOCAL_WORLD_SIZE" in environ else 1
        return cls(**numbers, local_world_size=local)


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name)
    if text is None or not text.isdecimal():
        raise ValueError(
            f"environment variable {name} must be a number, got {text!r}; "
            "start several processes with torchrun, or unset RANK and WORLD_SIZE"
        )
    return int(text)


class LocalTally:
    """Counts finished groups in this process; see ``pi0.ript.interfaces.Tally``."""

    def __init__(self) -> None:
        self._finished = 0
        self._rejected = 0

    def add(self, *, is_rejected: bool) -> None:
        """Count a finished group."""
        self._finished += 1
        self._rejected += is_rejected

    def read(self) -> tuple[int, int]:
        """Return (finished, rejected) groups."""
        return self._finished, self._rejected

    def pause(self) -> None:
        """Do nothing: there is no other rank to wait for."""


class SingleProcess:
    """Rank 0 of 1; see ``pi0.ript.interfaces.Ranks``."""

    rank = 0
    world_size = 1
    rank_info = RankInfo()

    def connect(self, timeout_s: float) -> None:
        """Do nothing: there is no other rank."""

    def require_same(self, what: str, mine: str, remedy: str) -> None:
        """Do nothing: there is no other rank."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing has to be closed."""

    def gather(self, values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Return the values of the only rank."""
        return [values]

    def gather_text(self, text: str) -> list[str]:
        """Return the text of the only rank."""
        return [text]

    def aside(self) -> Self:
        """Return itself."""
        return self

    def tally(self, name: str) -> LocalTally:
        """Return a new tally."""
        del name
        return LocalTally()


SINGLE_PROCESS = SingleProcess()
