"""Overrides on the command line are read like settings of a configuration file."""

import pytest

from pi0.ript.scripts.parts.policy_flags import read_overrides


def test_values_are_read_by_the_type_of_their_key():
    texts = ["horizon=20", "extra_delta=false", "cameras=[agentview]", "dtype=bfloat16"]
    assert read_overrides(texts).chosen() == {
        "horizon": 20,
        "extra_delta": False,
        "cameras": ("agentview",),
        "dtype": "bfloat16",
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("horizon", "--override needs KEY=VALUE, got 'horizon'"),
        ("horizn=3", "unknown key 'horizn'; did you mean 'horizon'"),
        ("horizon=long", "horizon must be a whole number or null, got 'long'"),
    ],
)
def test_a_wrong_override_is_named(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        read_overrides([text])
