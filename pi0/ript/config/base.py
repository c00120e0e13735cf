"""What every part of the configuration uses: its error, its check, and the word for a choice left to the program."""

from typing import Literal

Auto = Literal["auto"]


class ConfigError(ValueError):
    """A setting is wrong; the message is one line: key, value, what is allowed, what to type."""


def require(condition: bool, message: str) -> None:  # noqa: FBT001 - reads like an assertion
    """Raise ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)
