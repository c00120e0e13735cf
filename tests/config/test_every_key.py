"""Whatever key is misspelt or given a wrong type, the error names it and what was meant."""

import copy
import difflib
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pi0.ript.config.base import ConfigError
from pi0.ript.config.decode import decode_config, known_keys
from pi0.ript.config.load import read_config, to_yaml
from pi0.ript.config.schema import TrainConfig
from pi0.ript.config.yaml_text import parse_yaml

CONFIGS = {
    path.name: parse_yaml(path.read_text())
    for path in sorted((Path(__file__).parents[2] / "pi0/ript/config").glob("*.yaml"))
}
EVERYTHING = parse_yaml(to_yaml(TrainConfig()))
KEYS = known_keys(TrainConfig)


def keys_in(data, prefix=""):
    for key, value in data.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from keys_in(value, f"{prefix}{key}.")


def replaced(data, dotted, change):
    """Return a copy of ``data`` in which ``change(section, key)`` was applied at a dotted key."""
    data = copy.deepcopy(data)
    *sections, key = dotted.split(".")
    owner = data
    for section in sections:
        owner = owner[section]
    change(owner, key)
    return data


def error_of(data):
    with pytest.raises(ConfigError) as caught:
        decode_config(TrainConfig, data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


PLACES = [(name, key) for name, data in CONFIGS.items() for key in keys_in(data)]


@st.composite
def misspellings(draw):
    """Draw a key of a shipped file with one letter dropped, doubled, changed or swapped."""
    name, dotted = draw(st.sampled_from(PLACES))
    key = dotted.split(".")[-1]
    i = draw(st.integers(0, len(key) - 1))
    wrong = draw(
        st.sampled_from(
            [key[:i] + key[i + 1 :], key[:i] + key[i] + key[i:], key[:i] + "x" + key[i + 1 :]]
            + ([key[:i] + key[i + 1] + key[i] + key[i + 2 :]] if i + 1 < len(key) else [])
        ).filter(lambda text: text and text != key)
    )
    return name, dotted, wrong


@settings(max_examples=300, deadline=None)
@given(misspellings())
def test_single_misspelt_key_is_named_with_the_nearest_key(misspelling):
    name, dotted, wrong = misspelling
    wrong_dotted = ".".join([*dotted.split(".")[:-1], wrong])

    def rename(owner, key):
        owner[wrong] = owner.pop(key)

    message = error_of(replaced(CONFIGS[name], dotted, rename))
    assert message.startswith(f"unknown key {wrong_dotted!r}")
    suggestion = message.split("mean ")[1].strip("'?")
    assert suggestion in KEYS
    # Another key may be nearer still than the one we started from (beta1 -> beta2), never a worse one.
    likeness = [
        difflib.SequenceMatcher(None, wrong_dotted, key).ratio() for key in (suggestion, dotted)
    ]
    assert suggestion == dotted or likeness[0] >= 0.9 * likeness[1]


class Nonsense:
    """A value of no type that a setting has."""

    def __repr__(self):
        return "<nonsense>"


def refusal_of(data):
    try:
        decode_config(TrainConfig, data)
    except ConfigError as error:
        return str(error)
    return "accepted"


def is_clear(dotted, message):
    """Tell whether a refusal is one line with the key and the value."""
    return message.startswith(dotted) and "<nonsense>" in message and "\n" not in message


def test_value_of_a_wrong_type_is_refused_by_name():
    def spoil(owner, key):
        owner[key] = Nonsense()

    keys = list(keys_in(EVERYTHING))
    messages = {key: refusal_of(replaced(EVERYTHING, key, spoil)) for key in keys}
    assert {key: text for key, text in messages.items() if not is_clear(key, text)} == {}


@pytest.mark.parametrize(
    "message",
    ["accepted", "a number, got <nonsense>", "algo.lr: wrong", "algo.lr: wrong\n<nonsense>"],
)
def test_planted_unclear_message_is_found(message):
    assert not is_clear("algo.lr", message)


def test_printed_default_config_holds_every_key():
    assert tuple(keys_in(EVERYTHING)) == KEYS


@settings(max_examples=50, deadline=None)
@example(lr=1e-5, name="0E0", tasks=["1e5", ".5", "1_0", "on", "~"])  # numbers of either YAML
@given(
    lr=st.floats(1e-12, 1e3),
    name=st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=20),
    tasks=st.lists(st.integers(0, 99) | st.text("abc_ 1.", min_size=1, max_size=8), max_size=4),
)
def test_config_survives_writing_and_reading(tmp_path_factory, lr, name, tasks):
    data = {"exp_name": name, "algo": {"lr": lr}, "task": {"task_names_to_use": tasks}}
    config = decode_config(TrainConfig, data)
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_text(to_yaml(config))
    assert read_config(path) == config
