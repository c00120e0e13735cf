"""What every part of the configuration uses: its error, its checks, and the word for a choice left to the program."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, cast

Auto = Literal["auto"]

# {name}, {{ name }}, ${a.b}, ${oc.env:X}, $NAME, $(command), <name>, %(name)s, ???, and a shell's ~.
PLACEHOLDER = re.compile(
    r"\{\w+\}|\{\{.*?\}\}|\$\{.*?\}|\$\(.*?\)|\$[A-Za-z_]\w*|<[\w ./-]+>|%\(\w+\)s|^\?\?\?$|^~(?=/|$)"
)
EXPANDED = frozenset(("policy_path", "--policy", "--compare"))  # read as a shell would
REMEDIES = {
    "policy_path": "give a checkpoint folder or --policy_path builtin",
    "norm_stats_path": "give a file or --norm_stats_path null",
    "output_dir": "give a folder, e.g. --output_dir outputs",
}


class ConfigError(ValueError):
    """A setting is wrong; the message is one line: key, value, what is allowed, what to type."""


def require(condition: bool, message: str) -> None:  # noqa: FBT001 - reads like an assertion
    """Raise ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def require_filled_in(settings: Mapping[str, object]) -> None:
    """Refuse placeholders in any text of nested settings.

    Raises:
        ConfigError: Names the key, its value and what to type.
    """
    for key, text in _texts(settings, ""):
        found = PLACEHOLDER.search(text)
        if found is None or (found.group() == "~" and key in EXPANDED):
            continue
        remedy = REMEDIES.get(key, "nothing fills it in here, write the value itself")
        if found.group() == "~":
            remedy = "only a shell makes a home directory of ~, write the folder in full"
        raise ConfigError(f"{key} holds a placeholder, {text!r}; {remedy}")


def _texts(value: object, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in cast("Mapping[str, object]", value).items():
            yield from _texts(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, Sequence):
        for inner in cast("Sequence[object]", value):
            yield from _texts(inner, key)
