"""Earlier configuration data -> data in today's keys, with the notices that the user should see."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from pi0.ript.config.base import ConfigError
from pi0.ript.config.decode import Raw, read_text, unknown_key
from pi0.ript.config.legacy import LEGACY, RENAMED, LegacyKey

Settings = dict[str, object]
"""Dotted key -> value; a section without keys is None."""

OBJECTIVE = "algo.objective"
LEGACY_SECTIONS = frozenset(
    key.rsplit(".", depth)[0] for key in LEGACY for depth in range(1, key.count(".") + 1)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """Settings in today's keys.

    Attributes:
        data: Nested mappings, ready for decoding.
        notices: One line per renamed key and per reason why keys have no effect.
    """

    data: object
    notices: tuple[str, ...]


def translate(data: object, keys: tuple[str, ...]) -> Translation:
    """Return ``data`` without earlier keys; ``keys`` are today's dotted keys, sections included.

    Raises:
        ConfigError: A key is neither one of today's nor an earlier one; names it and the nearest key.
    """
    if not isinstance(data, Mapping):
        return Translation(data=data, notices=())
    known = frozenset(keys)
    settings = _flat(cast("Mapping[object, object]", data), "")
    for dotted in settings:
        _require_known(dotted, known)
    native = {key: value for key, value in settings.items() if key in known}
    earlier = {key: value for key, value in settings.items() if key not in known}
    renamed = _rename(native, earlier)
    notices = [*renamed, *_without_effect(earlier), *_keep_single_rollouts(native)]
    if notices and not any(key.startswith("evaluation") for key in native):
        notices.append(
            "evaluation.rollouts_per_task is not given: held-out episodes of every task are run before "
            "and after training; 0 switches this off"
        )
    notices += _keep_fixtures(native)
    return Translation(data=_nested(_plain_values(native)), notices=tuple(notices))


def _flat(data: Mapping[object, object], prefix: str) -> Settings:
    settings: Settings = {}
    for key, value in data.items():
        dotted = f"{prefix}{key}"
        inner: Settings = {dotted: value}
        if isinstance(value, Mapping) and value:
            inner = _flat(cast("Mapping[object, object]", value), f"{dotted}.")
        if twice := settings.keys() & inner.keys():
            raise ConfigError(
                f"key {min(twice)!r} is given twice, dotted and in its section; keep one"
            )
        settings |= inner
    return settings


def _nested(settings: Settings) -> dict[str, object]:
    data: dict[str, object] = {}
    for dotted, value in settings.items():
        *sections, name = dotted.split(".")
        owner = data
        for section in sections:
            if owner.get(section) is None:
                owner[section] = {}
            inner = owner[section]
            # A section given as text on the command line stays, for decoding to refuse.
            owner = cast("dict[str, object]", inner) if isinstance(inner, dict) else {}
        owner.setdefault(name, value)
    return data


def _require_known(dotted: str, known: frozenset[str]) -> None:
    for name in _beginnings(dotted):
        if name not in known and name not in LEGACY and name not in LEGACY_SECTIONS:
            raise unknown_key(name, (*sorted(known), *sorted(LEGACY_SECTIONS), *LEGACY))


def _beginnings(dotted: str) -> Iterator[str]:
    parts = dotted.split(".")
    for length in range(1, len(parts) + 1):
        yield ".".join(parts[:length])


def _rename(native: Settings, earlier: Settings) -> list[str]:
    """Move renamed settings to their targets in ``native``; return a notice for each."""
    notices: list[str] = []
    for row in RENAMED:
        if row.key not in earlier or row.target is None:
            continue
        key, value = row.key, earlier[row.key]
        if row.objective and _text(native.get(OBJECTIVE)) != row.objective:
            notices.append(
                f"{key} has no effect: {row.target} is read under {OBJECTIVE} {row.objective}"
            )
            continue
        is_meant, meant = _meaning(row, value)
        if not is_meant:
            notices.append(f"{key} is called {row.target}; {_text(value)} is its default")
        elif row.target in native:
            kept = native[row.target]
            notices.append(
                f"{key} is called {row.target}; {key}={_text(value)} is ignored, "
                f"{row.target}={_text(kept)} is used"
            )
        else:
            native[row.target] = meant
            notices.append(f"{key} is called {row.target}; using {row.target}={_text(meant)}")
    return notices


def _meaning(row: LegacyKey, value: object) -> tuple[bool, object]:
    """Return whether an earlier value asks for something, and the value of the target."""
    if not row.values:
        return True, value
    plain = read_text(value, row.key) if isinstance(value, Raw) else value
    if not isinstance(plain, bool):
        raise ConfigError(f"{row.key} must be true or false, got {plain!r}; use {row.target}")
    meant = row.values[plain]
    return meant is not None, meant


def _keep_single_rollouts(native: Settings) -> list[str]:
    """Switch rejection off where one rollout per initial state leaves nobody to disagree with."""
    if _text(native.get("algo.rloo_batch_size")) != "1":
        return []
    native["algo.enable_dynamic_sampling"] = False
    return [
        "algo.rloo_batch_size is 1: a rollout is compared with the others of its step, whatever their "
        "initial state, and no group is rejected; 2 or more compares rollouts of one initial state"
    ]


def _keep_fixtures(native: Settings) -> list[str]:
    """Keep fixtures where they stood in runs from before they were drawn for every episode."""
    seed = _text(native.get("task.fixture_seed"))
    if "task.fixtures" in native or seed in ("none", "null"):
        return []
    native["task.fixtures"] = "fixed"
    return [
        f"task.fixture_seed={seed} is given: using task.fixtures=fixed; the default, per_episode, draws "
        "fixtures for every episode and needs no seed"
    ]


def _without_effect(earlier: Settings) -> list[str]:
    by_advice: dict[str, list[str]] = {}
    for key, value in earlier.items():
        row = LEGACY.get(key)
        if row is None:
            _require_empty(key, value)
        elif row.target is None:
            _require_ignorable(row, value)
            by_advice.setdefault(row.advice, []).append(key)
    return [
        f"{', '.join(keys)} {'has' if len(keys) == 1 else 'have'} no effect: {advice}"
        for advice, keys in by_advice.items()
    ]


def _require_empty(section: str, value: object) -> None:
    if value is not None and value != {}:
        raise ConfigError(f"{section} must be a section with keys, got {_text(value)}")


def _require_ignorable(row: LegacyKey, value: object) -> None:
    if row.allowed and _text(value) not in row.allowed:
        raise ConfigError(
            f"{row.key} must be one of {', '.join(row.allowed)}, got {_text(value)}: {row.advice}"
        )


def _plain_values(native: Settings) -> Settings:
    """Read two forms of earlier files: no list of tasks as null, videos of evaluations as a switch."""
    settings = dict(native)
    if settings.get("task.task_names_to_use", ()) is None:
        del settings["task.task_names_to_use"]
    if isinstance(videos := settings.get("evaluation.save_videos"), bool):
        settings["evaluation.save_videos"] = int(videos)
    return settings


def _text(value: object) -> str:
    if isinstance(value, Raw):
        return value.text
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
