"""Where torchrun put this process, as its environment variables say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where torchrun put this process.

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
        """Read what torchrun sets; a process that was not started by torchrun is alone.

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
