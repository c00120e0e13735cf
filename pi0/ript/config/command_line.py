"""The command line of a training run: which configuration, which settings, and its help."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pi0.ript.config.base import ConfigError
from pi0.ript.config.decode import nearest
from pi0.ript.config.reference import all_settings

SCRIPT_NAME = "train_ript_pi0.py"
WIDTH = 100
_WITHOUT_VALUE = ("--print_config", "--check")
HELP = """\
usage: {program} NAME [--<key> VALUE] ...
       {program} --config_path FILE [--<key> VALUE] ...
       {program} --resume DIR [--<key> VALUE] ...

Improve a pi0 policy by reinforcement learning on LIBERO: K rollouts of each initial state, reward 0 or 1,
leave-one-out advantages. Results go to output_dir/exp_name_<time>.

Examples:
    {program} quickstart
    {program} quickstart --task.num_parallel_envs 4 --training.seed 1
    {program} --config_path my.yaml --policy_path DIR --print_config
    {program} --resume outputs/RUN

configurations that come with the package (NAME):
{shipped}

options:
  --config_path FILE  YAML file with any of the settings below
  --<key> VALUE       override one setting; also --<key>=VALUE or --override <key>=VALUE
  --resume DIR        continue the run in DIR; its own configuration is used unless one is given
  --check             check machine, policy, tasks and services for this run, and exit; nothing is written
  --print_config      print the resolved configuration and exit
  -h, --help          print this page and exit

settings, what they accept and their defaults; docs/config.md says what they mean:
{settings}
"""


@dataclass(slots=True, kw_only=True)
class Arguments:
    """What stands on a command line, its values not yet read.

    Attributes:
        config_path: The configuration file; None where none was given.
        resume: Run directory to continue, or None for a new run.
        is_print: Whether the resolved configuration is to be printed, and nothing else.
        is_check: Whether the run is to be checked, and not begun.
        is_help: Whether the help page is to be printed, and nothing else.
        overrides: (Dotted key, text) of every setting, in order.
    """

    config_path: Path | None = None
    resume: Path | None = None
    is_print: bool = False
    is_check: bool = False
    is_help: bool = False
    overrides: tuple[tuple[str, str], ...] = ()


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Split a command line, without the program's name.

    Raises:
        ConfigError: A flag without its value or with one that it does not take, two configurations, or a word
            that is neither a flag nor the name of a configuration.
    """
    arguments, names, rest = Arguments(), list[str](), list(argv)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if flag in ("-h", "--help"):
            return Arguments(is_help=True)
        if equals and flag in _WITHOUT_VALUE:
            raise ConfigError(
                f"{flag} takes no value, got {value!r}; give {flag} alone or leave it out"
            )
        if flag == "--print_config":
            arguments.is_print = True
        elif flag == "--check":
            arguments.is_check = True
        elif flag.startswith("--") and flag != "--":
            _store(arguments, flag[2:], value if equals else _next_value(flag, rest))
        else:
            names.append(_require_name(word))
    if names:
        _choose_shipped(arguments, names)
    return arguments


def program_name(argv0: str) -> str:
    """Return how to start training again: ``ript train``, or the script if that was started.

    Args:
        argv0: What the running program was started as, ``sys.argv[0]``.
    """
    return f"python {argv0}" if Path(argv0).name == SCRIPT_NAME else "ript train"


def help_page(program: str) -> str:
    """Return what ``--help`` prints; ``program`` is the name that it is called by."""
    shipped, settings = shipped_configs(), list(all_settings())
    width = max(map(len, shipped))
    return HELP.format(
        program=program,
        shipped="\n".join(_entry(name, purpose(path), width) for name, path in shipped.items()),
        settings="\n".join(f"  --{s.key}: {s.accepts}; default {s.default}" for s in settings),
    )


def shipped_configs() -> dict[str, Path]:
    """Return the file of every configuration that comes with the package by its name, in order."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}


def find_shipped(name: str) -> Path:
    """Return the file of a configuration that comes with the package.

    Raises:
        ConfigError: None has this name; names the nearest one and all.
    """
    shipped = shipped_configs()
    if name not in shipped:
        raise ConfigError(
            f"unknown configuration {name!r}; did you mean {nearest(name, tuple(shipped))!r}? Shipped: "
            f"{', '.join(shipped)}; a file is given as --config_path FILE, a setting as --<key> VALUE"
        )
    return shipped[name]


def purpose(path: Path) -> str:
    """Return what a shipped configuration is for: its first line, which is a comment."""
    return path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def _entry(name: str, text: str, width: int) -> str:
    margin = " " * (width + 4)
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=f"  {name:<{width}}  ",
        subsequent_indent=margin,
        break_on_hyphens=False,
    )


def _require_name(word: str) -> str:
    if re.fullmatch(r"\w+", word):
        return word
    raise ConfigError(
        f"unexpected argument {word!r}; a file is given as --config_path FILE, settings are given as "
        "--<key> VALUE"
    )


def _choose_shipped(arguments: Arguments, names: Sequence[str]) -> None:
    path = find_shipped(names[0])
    for other in (*names[1:], arguments.config_path):
        if other is not None:
            raise ConfigError(f"two configurations are given, {names[0]} and {other}; keep one")
    arguments.config_path = path


def _next_value(flag: str, rest: list[str]) -> str:
    if not rest or rest[0].startswith("--"):
        raise ConfigError(f"{flag} needs a value: {flag} VALUE or {flag}=VALUE")
    return rest.pop(0)


def _store(arguments: Arguments, name: str, value: str) -> None:
    if name == "config_path":
        arguments.config_path = Path(value)
    elif name == "resume":
        arguments.resume = Path(value)
    elif name == "override":
        key, equals, text = value.partition("=")
        if not equals:
            raise ConfigError(f"--override needs <key>=VALUE, got {value!r}")
        arguments.overrides += ((key, text),)
    else:
        arguments.overrides += ((name, value),)
