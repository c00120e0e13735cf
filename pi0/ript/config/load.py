"""Command line + YAML file -> TrainConfig. The only reader of configuration files."""

import importlib.util
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, cast

import draccus

from pi0.ript.atomic import write_atomically
from pi0.ript.config.base import ConfigError
from pi0.ript.config.decode import Raw, decode_config, known_keys
from pi0.ript.config.environment import read_environment
from pi0.ript.config.legacy import MEANINGLESS_NAMES
from pi0.ript.config.presets import with_preset
from pi0.ript.config.schema import TrainConfig
from pi0.ript.config.translate import translate
from pi0.ript.config.yaml_text import dump_yaml, parse_yaml

logger = logging.getLogger(__name__)

RUN_CONFIG_NAME = "config.yaml"
USAGE = """\
usage: --config_path FILE [--<key> VALUE | --<key>=VALUE | --override <key>=VALUE] ...
  --config_path FILE   YAML configuration, e.g. pi0/ript/config/quickstart.yaml
  --<key> VALUE        override one setting by its dotted key, e.g. --task.num_parallel_envs 4
  --resume DIR         continue the run in DIR; its own configuration is used unless one is given
  --print_config       print the resolved configuration and exit
All keys: docs/config.md
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What the command line asked for.

    Attributes:
        config: The resolved configuration.
        resume: Run directory to continue, or None for a new run.
    """

    config: TrainConfig
    resume: Path | None


@dataclass(slots=True, kw_only=True)
class _Arguments:
    config_path: Path | None = None
    resume: Path | None = None
    is_print: bool = False
    overrides: tuple[tuple[str, str], ...] = ()


def load_config(argv: Sequence[str]) -> TrainConfig:
    """Return the configuration that a command line asks for; see :func:`load_launch`."""
    return load_launch(argv).config


def load_launch(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> Launch:
    """Read a command line, without the program's name, and the YAML file it names.

    Keys of earlier configuration files are translated; each notice is logged as a warning.

    Args:
        argv: The command line.
        environ: Environment variables; they win over the file, the command line over both.

    Raises:
        ConfigError: A wrong flag, key or value; one line.
        FileNotFoundError: There is no such configuration file or run directory.
        SystemExit: With status 0 after ``--print_config`` or ``--help``.
    """
    arguments = _parse(argv)
    data = _read(_config_path(arguments))
    chosen = [*read_environment(environ or {}), *arguments.overrides]
    data = _without_foreign_stats(data, {key for key, _ in chosen})
    for key, text in chosen:
        data = _with_override(data, key, text)
    config = _decode(data)
    _require_filled_in(config)
    _require_packages(config)
    if arguments.is_print:
        _print_and_exit(to_yaml(config))
    return Launch(config=config, resume=arguments.resume)


def to_yaml(config: TrainConfig) -> str:
    """Return every setting, defaults included, as YAML that loads back to an equal configuration."""
    return dump_yaml(to_plain(config))


def to_plain(config: TrainConfig) -> dict[str, object]:
    """Return every setting as plain values in nested dictionaries."""
    plain: object = draccus.encode(config)  # pyright: ignore[reportUnknownMemberType] - lacks types
    return cast("dict[str, object]", plain)


def save_config(config: TrainConfig, path: Path) -> None:
    """Write the resolved configuration; the file appears whole or not at all."""
    write_atomically(path, to_yaml(config))


def read_config(path: Path) -> TrainConfig:
    """Return the configuration in a YAML file."""
    return _decode(_read(path))


def _decode(data: object) -> TrainConfig:
    translation = translate(data, known_keys(TrainConfig))
    for notice in translation.notices:
        logger.warning("configuration: %s", notice)
    return decode_config(TrainConfig, with_preset(translation.data))


def _without_foreign_stats(data: object, chosen: set[str]) -> object:
    """Drop the statistics of the file's policy where the command line names another policy."""
    if "policy_path" not in chosen or "norm_stats_path" in chosen or not isinstance(data, Mapping):
        return data
    settings = dict(cast("Mapping[object, object]", data))
    path = settings.pop("norm_stats_path", None)
    if path is not None:
        logger.warning(
            "configuration: norm_stats_path=%s belongs to the policy_path of the file, which is "
            "replaced; using the statistics of the checkpoint", path,
        )  # fmt: skip
    return settings


def _require_filled_in(config: TrainConfig) -> None:
    for key, remedy in (
        ("policy_path", "give a checkpoint folder or --policy_path builtin"),
        ("norm_stats_path", "give a file or --norm_stats_path null"),
        ("output_dir", "give a folder, e.g. --output_dir outputs"),
    ):
        value = getattr(config, key)
        if value and re.search(r"\{\w+\}", value):
            raise ConfigError(f"{key} holds a placeholder, {value!r}; {remedy}")


def _require_packages(config: TrainConfig) -> None:
    if config.logging.wandb and importlib.util.find_spec("wandb") is None:
        raise ConfigError(
            "logging.wandb=true needs a package that is not installed; run: pip install 'pi0-ript[wandb]'"
        )


def _parse(argv: Sequence[str]) -> _Arguments:
    arguments = _Arguments()
    rest = list(argv)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if flag in ("-h", "--help"):
            _print_and_exit(USAGE)
        elif flag == "--print_config":
            arguments.is_print = True
        elif not flag.startswith("--") or flag == "--":
            raise ConfigError(f"unexpected argument {flag!r}; settings are given as --<key> VALUE")
        else:
            _store(arguments, flag[2:], value if equals else _next_value(flag, rest))
    return arguments


def _next_value(flag: str, rest: list[str]) -> str:
    if not rest or rest[0].startswith("--"):
        raise ConfigError(f"{flag} needs a value: {flag} VALUE or {flag}=VALUE")
    return rest.pop(0)


def _store(arguments: _Arguments, name: str, value: str) -> None:
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


def _config_path(arguments: _Arguments) -> Path:
    if arguments.config_path is not None:
        return arguments.config_path
    if arguments.resume is None:
        raise ConfigError(
            "--config_path is required, e.g. --config_path pi0/ript/config/quickstart.yaml"
        )
    path = arguments.resume / RUN_CONFIG_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"--resume {arguments.resume}: not a run directory, it has no {RUN_CONFIG_NAME}"
        )
    return path


def _read(path: Path) -> object:
    if not path.is_file():
        shipped = sorted(file.name for file in Path(__file__).parent.glob("*.yaml"))
        raise FileNotFoundError(
            f"configuration file not found: {path}; pi0/ript/config has {', '.join(shipped)}"
        )
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), MEANINGLESS_NAMES)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file ({error.reason})") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _with_override(data: object, key: str, text: str) -> object:
    """Return ``data`` with one dotted key replaced; what is no section is left for decoding to refuse."""
    head, _, tail = key.partition(".")
    section = dict(cast("Mapping[object, object]", data)) if isinstance(data, Mapping) else {}
    if data is not None and not isinstance(data, Mapping):
        return data
    section[head] = _with_override(section.get(head), tail, text) if tail else Raw(text=text)
    return section


def _print_and_exit(text: str) -> NoReturn:
    sys.stdout.write(text)
    raise SystemExit(0)
