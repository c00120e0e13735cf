"""YAML as this project reads it: safe, YAML 1.2 scalars, no key twice.

PyYAML follows YAML 1.1, where ``1e-5`` is text, ``yes`` is a boolean and ``010`` is eight; each of these
has cost somebody a run, so the scalars are the ones of the YAML 1.2 core schema.
"""

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import cast

import yaml

from pi0.ript.config.base import ConfigError

_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    "float": (_FLOAT, list("-+.0123456789")),
    "merge": (r"<<", ["<"]),
}


MOST_VALUES = 100_000


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2 scalars that refuses a key given twice, except where it means nothing."""

    may_repeat: frozenset[str] = frozenset()

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own class-level registry

    def construct_mapping(
        self,
        node: yaml.MappingNode,
        deep: bool = False,  # noqa: FBT001, FBT002 - PyYAML's signature
    ) -> dict[Hashable, object]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in seen and key not in self.may_repeat:
                line = key_node.start_mark.line + 1
                raise ConfigError(f"key {key!r} is given twice (line {line}); keep one")
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes text which is a number, a boolean or null for either version of YAML."""


for _name, (_pattern, _first) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(  # pyright: ignore[reportUnknownMemberType] - PyYAML has no types
            f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _first
        )


def parse_yaml(text: str, may_repeat: frozenset[str] = frozenset()) -> object:
    """Return the data of one YAML document; only plain data, never objects.

    Args:
        text: The document.
        may_repeat: Keys without meaning, which may stand twice in a section.

    Raises:
        ConfigError: The text is not YAML, holds a key twice or asks for a Python object.
    """
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        raise ConfigError(
            f"not valid YAML: character {error.character!r} at position {error.position} is not allowed"
        ) from error
    loader.may_repeat = may_repeat
    try:
        data = loader.get_single_data()
        _require_tree(data)
    except RecursionError:
        raise ConfigError(
            "not valid YAML: nested too deeply, or an alias stands for something that it is itself part of"
        ) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = " ".join(str(error.problem or error.context).split())
        raise ConfigError(f"not valid YAML (line {line}): {problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}") from error
    finally:
        loader.dispose()  # pyright: ignore[reportUnknownMemberType] - PyYAML has no types
    return data


def _require_tree(data: object) -> None:
    """Refuse aliases of what they are part of, and aliases of aliases that stand for too much to read."""
    for number, _ in enumerate(_values(data, ())):
        if number > MOST_VALUES:
            raise ConfigError(
                f"not a configuration: its aliases stand for over {MOST_VALUES} values"
            )


def _values(value: object, around: tuple[int, ...]) -> Iterator[object]:
    number = id(value)
    if number in around:
        raise ConfigError("an alias stands for something that it is itself part of; write it out")
    yield value
    inner: Iterable[object] = ()
    if isinstance(value, Mapping):
        inner = cast("Mapping[object, object]", value).values()
    elif isinstance(value, list):
        inner = cast("list[object]", value)
    for each in inner:
        yield from _values(each, (*around, number))


def dump_yaml(data: object) -> str:
    """Return ``data`` as YAML that :func:`parse_yaml` reads back unchanged."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=False)
