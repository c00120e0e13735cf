"""YAML file + command line -> TrainConfig. The only reader of configuration files."""

import importlib.util
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, cast

import draccus

from pi0.files import write_atomically
from pi0.ript.config.base import ConfigError, require_filled_in
from pi0.ript.config.command_line import (
    Arguments,
    help_page,
    parse_arguments,
    program_name,
    shipped_configs,
)
from pi0.ript.config.decode import Raw, decode_config, known_keys
from pi0.ript.config.environment import read_environment
from pi0.ript.config.legacy import MEANINGLESS_NAMES
from pi0.ript.config.presets import with_preset
from pi0.ript.config.schema import TrainConfig
from pi0.ript.config.translate import translate
from pi0.ript.config.yaml_text import dump_yaml, parse_yaml
from pi0.ript.run_folder import (
    RUN_CONFIG_NAME,
    find_run,
    is_run,
    newest_run_in,
    newest_step,
    step_of,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What the command line asked for.

    Attributes:
        config: The resolved configuration.
        resume: Run directory to continue, or None for a new run.
        is_check: Whether the run is to be checked only.
    """

    config: TrainConfig
    resume: Path | None
    is_check: bool = False


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
    arguments = parse_arguments(argv)
    if arguments.is_help:
        _print_and_exit(help_page(program_name(sys.argv[0])))
    if arguments.resume is not None:
        arguments.resume = _run_to_resume(arguments.resume)
    data = _read(_config_path(arguments))
    chosen = [*read_environment(environ or {}), *arguments.overrides]
    data = _without_foreign_stats(data, {key for key, _ in chosen})
    for key, text in chosen:
        data = _with_override(data, key, text)
    config = _decode(data)
    require_filled_in(to_plain(config))
    _require_packages(config)
    if arguments.is_print:
        _print_and_exit(to_yaml(config))
    return Launch(config=config, resume=arguments.resume, is_check=arguments.is_check)


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


def _require_packages(config: TrainConfig) -> None:
    if config.logging.wandb and importlib.util.find_spec("wandb") is None:
        raise ConfigError(
            "logging.wandb=true needs a package that is not installed; run: pip install 'pi0-ript[wandb]'"
        )


def _config_path(arguments: Arguments) -> Path:
    if arguments.config_path is not None:
        return arguments.config_path
    if arguments.resume is None:
        raise ConfigError(
            "--config_path is required, or the name of a configuration that comes with the package: "
            f"{', '.join(shipped_configs())}"
        )
    return arguments.resume / RUN_CONFIG_NAME


def _run_to_resume(path: Path) -> Path:
    """Return the run directory that ``--resume`` means, which may be given as something inside it.

    Raises:
        FileNotFoundError: There is no run.
        ConfigError: It names a checkpoint that is not the newest one of its run.
    """
    if is_run(path):
        return path
    run = find_run(path)
    if run is None:
        other = newest_run_in(path)
        hint = "" if other is None else f"; give a run in it, the newest one is {other}"
        raise FileNotFoundError(
            f"--resume {path}: not a run directory, it has no {RUN_CONFIG_NAME}{hint}"
        )
    step, newest = step_of(path, run), newest_step(run)
    if step is not None and step != newest:
        raise ConfigError(
            f"--resume {path}: the run {run} goes on from its newest checkpoint, {newest}; give the run, or "
            f"begin another one with --policy_path {run}/checkpoints/{step}/pretrained_model"
        )
    logger.warning("--resume %s is in the run %s, which goes on", path, run)
    return run


def _read(path: Path) -> object:
    if not path.is_file():
        raise FileNotFoundError(
            f"configuration file not found: {path}; those that come with the package are given by name, "
            f"without --config_path: {', '.join(shipped_configs())}"
        )
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), MEANINGLESS_NAMES)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file ({error.reason})") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _with_override(data: object, key: str, text: str) -> object:
    """Return ``data`` with one dotted key replaced; what is no section is left for decoding to refuse."""
    if isinstance(data, Mapping) and key in data:  # the file gives it dotted
        return {**cast("Mapping[object, object]", data), key: Raw(text=text)}
    head, _, tail = key.partition(".")
    section = dict(cast("Mapping[object, object]", data)) if isinstance(data, Mapping) else {}
    if data is not None and not isinstance(data, Mapping):
        return data
    section[head] = _with_override(section.get(head), tail, text) if tail else Raw(text=text)
    return section


def _print_and_exit(text: str) -> NoReturn:
    sys.stdout.write(text)
    raise SystemExit(0)
