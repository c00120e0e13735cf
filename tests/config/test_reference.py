"""docs/config.md says what the schema says."""

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

from pi0.ript.config.reference import config_reference, field_descriptions
from pi0.ript.config.schema import TrainConfig


def sections(kind):
    yield kind
    for hint in get_type_hints(kind).values():
        if is_dataclass(hint):
            yield from sections(hint)


def test_document_is_up_to_date():
    document = Path(__file__).parents[2] / "docs/config.md"
    assert document.read_text() == config_reference(), "run: make docs"


def test_every_setting_is_described_and_nothing_else_is():
    for section in sections(TrainConfig):
        hints = get_type_hints(section)
        settings = [field.name for field in fields(section) if not is_dataclass(hints[field.name])]
        described = [name for name in field_descriptions(section) if not is_dataclass(hints[name])]
        assert described == settings, section.__name__


def test_table_gives_key_type_default_and_meaning():
    lines = config_reference().splitlines()
    assert (
        "| `task.num_held_out_states` | a whole number | `20` | The last n of LIBERO's 50 initial states "
        "per task are never trained on; evaluation uses only those. |" in lines
    )
    assert any(
        line.startswith("| `training.optimizer.beta1` | a number | `0.9` |") for line in lines
    )
