"""One process on its own: everything that ranks do together, done by the only one."""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from pi0.ript.engine.place import Place


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
        """There is nobody to wait for."""


class Alone:
    """Rank 0 of 1; see ``pi0.ript.interfaces.Ranks``."""

    rank = 0
    world_size = 1
    place = Place()

    def connect(self, timeout_s: float) -> None:
        """There is nobody to connect to."""

    def require_same(self, what: str, mine: str, remedy: str) -> None:
        """There is nobody to differ from."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing has to be closed."""

    def gather(self, rows: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Return the rows of the only rank."""
        return [rows]

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


ALONE = Alone()
