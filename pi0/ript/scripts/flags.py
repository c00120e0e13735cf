"""Command-line flags of the small programs, made from the fields of a settings record."""

import argparse
import dataclasses
from typing import Any, get_args, get_type_hints


def add_flags(parser: argparse.ArgumentParser, record: type[Any]) -> None:
    """Add ``--<field>`` for every field of a dataclass, with its default."""
    hints = get_type_hints(record)
    for field in dataclasses.fields(record):
        is_many = isinstance(field.default, tuple)
        kind = get_args(hints[field.name])[0] if is_many else hints[field.name]
        parser.add_argument(
            f"--{field.name}",
            type=kind,
            default=field.default,
            nargs="*" if is_many else None,
            help=f"default {field.default}",
        )


def from_flags(arguments: argparse.Namespace, record: type[Any]) -> Any:
    """Return the settings record that the parsed flags describe."""
    values = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(record)}
    return record(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
