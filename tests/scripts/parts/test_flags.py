"""Flags and overrides of the small programs are read, and refused, like settings of a configuration file."""

import re

import pytest

from pi0.ript.scripts.parts.flags import Parser
from pi0.ript.scripts.parts.policy_flags import read_overrides


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        ("--nmu_steps=3", "unknown flag --nmu_steps (did you mean --num_steps?)"),
        ("--learning_rate=1", "unknown flag --learning_rate (did you mean --lr?)"),
        ("--model_path=x", "unknown flag --model_path (did you mean --policy?)"),
        ("--xyz", "unknown flag --xyz"),  # like nothing that there is
        ("-x", "unexpected argument '-x'"),
        ("folder", "unexpected argument 'folder'"),
    ],
)
def test_an_unknown_flag_is_named_with_the_one_that_is_meant(typed, complaint):
    parser = Parser("ript sft", "")
    for flag in ("--lr", "--num_steps", "--policy"):
        parser.add_argument(flag)
    with pytest.raises(ValueError, match=re.escape(f"{complaint}; see ript sft --help")):
        parser.parse_args([typed])


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
