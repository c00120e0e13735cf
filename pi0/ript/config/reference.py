"""The table of all settings in docs/config.md, made from the schema and its docstrings."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import cast, get_type_hints

from pi0.ript.config.decode import describe
from pi0.ript.config.legacy import NO_EFFECT, RENAMED, LegacyKey
from pi0.ript.config.schema import TrainConfig

_INTRODUCTION = """\
# Settings

Made from `pi0/ript/config/schema.py` by `make docs`; do not edit by hand.

A run reads one YAML file: `--config_path FILE`, or one that comes with the package by its name, as in
`ript train quickstart`. Every key is optional and every key below can also be given on the command line,
which wins: `--task.num_parallel_envs 4`, `--task.num_parallel_envs=4` or
`--override task.num_parallel_envs=4`. `--print_config` shows what a run would use. The resolved
configuration is saved as `config.yaml` in the run directory.

An unknown key, a value of a wrong type or a key given twice is an error, with the nearest known key.
Numbers may be written `1e-5`; `yes` and `on` are text, not booleans (YAML 1.2).

| environment variable | overrides |
|---|---|
| `USE_RIPT_VLA_RUNNER` | `features.use_ript_vla_runner` |
| `PI0_DEBUG_SAVE_VIDEO` | `video.save` |
| `PI0_DEBUG_IMAGE_DIR` | `video.dir` |

A switch is `1/true/yes/on` or `0/false/no/off` in any case; unset or empty means no opinion. The command line
wins over all but the first. `DEBUG_SAVE_PROCESSED` has no effect and says so.
"""

_EARLIER = """
## Keys of earlier configuration files

Configuration files of earlier systems load as they are. Each key that changed is named once in a warning.

| key | called | but |
|---|---|---|
"""

_IGNORED = """
Without effect, named with the reason in one warning:

| keys | what to do |
|---|---|
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One key of a configuration.

    Attributes:
        key: Dotted.
        accepts: Its type in words, e.g. ``a whole number or null``.
        default: As YAML.
        meaning: Its text in the docstring of its section.
    """

    key: str
    accepts: str
    default: str
    meaning: str


def config_reference() -> str:
    """Return docs/config.md."""
    return "".join(
        [
            _INTRODUCTION,
            *_section(TrainConfig, "", "Run"),
            _EARLIER,
            *_renamed(),
            _IGNORED,
            *_ignored(),
        ]
    )


def _renamed() -> list[str]:
    return [
        f"| `{row.key}` | `{row.target}` | {_values(row)}{_condition(row)} |\n" for row in RENAMED
    ]


def _values(row: LegacyKey) -> str:
    pairs = [
        f"`{str(earlier).lower()}` is {f'`{value}`' if value is not None else 'the default'}"
        for earlier, value in row.values.items()
    ]
    return ", ".join(pairs)


def _condition(row: LegacyKey) -> str:
    return f"only under `algo.objective: {row.objective}`" if row.objective else ""


def _ignored() -> list[str]:
    by_advice: dict[str, list[str]] = {}
    for row in NO_EFFECT:
        by_advice.setdefault(row.advice, []).append(f"`{row.key}`")
    return [f"| {', '.join(keys)} | {advice} |\n" for advice, keys in by_advice.items()]


def field_descriptions(section: type) -> dict[str, str]:
    """Return the text of each field in the ``Attributes:`` part of a docstring, on one line each."""
    text = inspect.cleandoc(section.__doc__ or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", text, flags=re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in entries}


def all_settings(kind: type = TrainConfig, path: str = "") -> Iterator[Setting]:
    """Yield every setting of a section and of those inside it; ``path`` ends with a dot or is empty."""
    yield from _settings(kind, path)
    for dotted, inner in _sections(kind, path):
        yield from all_settings(inner, f"{dotted}.")


def _settings(kind: type, path: str) -> Iterator[Setting]:
    hints, descriptions = get_type_hints(kind), field_descriptions(kind)
    for field in fields(kind):
        if not is_dataclass(hints[field.name]):
            yield Setting(
                key=path + field.name,
                accepts=describe(hints[field.name]),
                default=_default(field),
                meaning=descriptions[field.name],
            )


def _sections(kind: type, path: str) -> Iterator[tuple[str, type]]:
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            yield path + name, cast("type", hint)


def _section(kind: type, path: str, title: str) -> list[str]:
    summary = inspect.cleandoc(kind.__doc__ or "").splitlines()[0]
    lines = [
        f"\n## {title}\n\n{summary}\n\n| key | accepts | default | meaning |\n|---|---|---|---|\n"
    ]
    for setting in _settings(kind, path):
        meaning = setting.meaning.replace("``", "`").replace("|", "\\|")
        lines.append(f"| `{setting.key}` | {setting.accepts} | `{setting.default}` | {meaning} |\n")
    for dotted, inner in _sections(kind, path):
        lines += _section(inner, f"{dotted}.", f"`{dotted}`")
    return lines


def _default(field: "Field[object]") -> str:
    assert field.default is not MISSING, f"{field.name} has no default"
    if field.default is None:
        return "null"
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return "[]" if field.default == () else str(field.default)
