"""YAML that would fill the memory or the stack is refused in a line."""

import pytest

from pi0.ript.config.base import ConfigError
from pi0.ript.config.yaml_text import parse_yaml


@pytest.mark.parametrize(
    "text",
    ["a: &a {b: *a}", "- &a [*a]", "a: &a {b: {c: [1, *a]}}", "[" * 5000],
)
def test_what_contains_itself_or_is_too_deep_is_refused(text):
    with pytest.raises(ConfigError, match=r"part of|deeply"):
        parse_yaml(text)


def test_aliases_of_aliases_do_not_fill_the_memory():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]

    with pytest.raises(ConfigError, match="aliases stand for over"):
        parse_yaml("\n".join(lines))


def test_an_alias_of_something_else_is_read():
    assert parse_yaml("a: &a {x: 1}\nb: [*a, *a]") == {"a": {"x": 1}, "b": [{"x": 1}, {"x": 1}]}
