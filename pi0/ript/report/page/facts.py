"""What was run: settings that differ from the defaults, the policy's card, versions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pi0.ript.config.load import to_plain
from pi0.ript.config.schema import TrainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting that somebody chose, e.g. ``Setting(key="algo.lr", value="1.0e-05", default="2.0e-05")``."""

    key: str
    value: str
    default: str


def chosen_settings(config: TrainConfig) -> list[Setting]:
    """Return every setting whose value is not the default, in the order of the schema."""
    defaults = dict(_flat(to_plain(TrainConfig())))
    return [
        Setting(key=key, value=value, default=defaults[key])
        for key, value in _flat(to_plain(config))
        if value != defaults[key]
    ]


def card_lines(card: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the card of a policy as (name, value) for a human."""
    return [(name.replace("_", " "), plain(value)) for name, value in card.items()]


def plain(value: object) -> str:
    """Return a value as one writes it in YAML, large numbers with thousands separators."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value >= 100_000:
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(entry) for entry in value) or "none"
    return "null" if value is None else str(value)


def _flat(data: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    if not isinstance(data, Mapping):
        yield prefix, plain(data)
        return
    for key, value in data.items():
        yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
