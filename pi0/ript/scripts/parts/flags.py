"""Command-line flags of the small programs, made from the fields of a settings record."""

import argparse
import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, cast, get_args, get_type_hints

from pi0.ript.config.base import require_filled_in
from pi0.ript.config.decode import likeness, meant, nearest
from pi0.ript.config.reference import field_descriptions
from pi0.ript.config.schema import TrainingConfig

LEAST_LIKENESS = 0.5  # of a flag that is worth naming, as difflib counts


class Parser(argparse.ArgumentParser):
    """A parser that refuses a wrong flag as every other wrong setting is refused: in one line.

    Args:
        prog: The command as it is typed, e.g. ``ript eval``.
        text: The docstring of the program: what it is for, and examples; stands in the help as it is.
        usage: Its arguments, where argparse cannot know them all; None lists what argparse knows.
    """

    def __init__(self, prog: str, text: str | None, usage: str | None = None) -> None:
        super().__init__(
            prog=prog,
            usage=usage,
            description=(text or "").replace("``", ""),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def parse_args(self, args: Sequence[str]) -> argparse.Namespace:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the parsed command line.

        Raises:
            ValueError: A flag is wrong, or holds a placeholder.
        """
        arguments, unknown = self.parse_known_args(args)
        if unknown:
            self.error(self._unknown(unknown[0]))
        given = {f"--{name}": _plain(value) for name, value in vars(arguments).items()}
        require_filled_in(given)
        return arguments

    def given(self, args: Sequence[str]) -> set[str]:
        """Return the names of the flags that stand on a command line, whatever value they have there.

        Raises:
            ValueError: A flag is wrong.
        """
        absent = object()  # a default is only set where the namespace has nothing yet
        empty = argparse.Namespace(**{action.dest: absent for action in self._actions})
        parsed, _ = self.parse_known_args(args, empty)
        return {name for name, value in vars(parsed).items() if value is not absent}

    def _unknown(self, argument: str) -> str:
        """Return what is wrong with an argument that nothing takes, with the flag that is probably meant."""
        if not argument.startswith("--"):
            return f"unexpected argument {argument!r}"
        written = argument.removeprefix("--").split("=")[0]
        flags = tuple(name.removeprefix("--") for name in self._option_string_actions)
        near = meant(written, flags)
        is_far = near == nearest(written, flags) and likeness(written, near) < LEAST_LIKENESS
        return f"unknown flag --{written}" + ("" if is_far else f" (did you mean --{near}?)")

    def error(self, message: str) -> NoReturn:
        """Raise ``ValueError`` with what is wrong and where the flags are listed."""
        raise ValueError(f"{message}; see {self.prog} --help")


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(each) for each in cast("list[object]", value)]
    return str(value) if isinstance(value, Path) else value


def require_number(
    arguments: argparse.Namespace, name: str, least: int, most: int | None = None
) -> None:
    """Raise ``ValueError`` unless a flag is within bounds; what is no number (None, ``auto``) passes.

    Args:
        arguments: The parsed command line.
        name: Of the flag, without dashes.
        least: Smallest number that is allowed.
        most: Largest one; None sets no bound.
    """
    value = getattr(arguments, name)
    if not isinstance(value, int) or least <= value <= (value if most is None else most):
        return
    allowed = f">= {least}" if most is None else f"in [{least}, {most}]"
    raise ValueError(f"--{name} must be {allowed}, got {value}")


def require_output_file(arguments: argparse.Namespace, name: str) -> None:
    """See before long work that the file that a flag names can be written; its folder is made.

    Args:
        arguments: The parsed command line.
        name: Of the flag, without dashes.

    Raises:
        ValueError: It is a folder.
        OSError: It cannot be written.
    """
    path: Path = getattr(arguments, name)
    if path.is_dir():
        raise ValueError(f"--{name} {path} is a folder; name a file, e.g. {path / name}.json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(
            f"--{name} {path} cannot be written ({error.strerror}); name a file in a folder that can be"
        ) from None


def add_flags(parser: argparse.ArgumentParser, record: type[Any], title: str | None = None) -> None:
    """Add ``--<field>`` for every field of a dataclass, with its default and its text, below a title of the help."""
    group = parser if title is None else parser.add_argument_group(title)
    hints, meanings = get_type_hints(record), field_descriptions(record)
    for field in dataclasses.fields(record):
        is_many = isinstance(field.default, tuple)
        # A list of something, something or nothing: the text is of the something.
        kind = (get_args(hints[field.name]) or (hints[field.name],))[0]
        group.add_argument(
            f"--{field.name}",
            type=kind,
            default=field.default,
            nargs="*" if is_many else None,
            help=f"{meanings[field.name]} Default: {field.default}.",
        )


def from_flags(arguments: argparse.Namespace, record: type[Any]) -> Any:
    """Return the settings record that the parsed flags describe."""
    values = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(record)}
    return record(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def add_seed_and_device(parser: argparse.ArgumentParser) -> None:
    """Add what decides the random draws and where the network runs."""
    parser.add_argument(
        "--seed",
        type=int,
        default=TrainingConfig().seed,
        help="of every random draw; default %(default)s",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto takes the GPU if there is one",
    )
