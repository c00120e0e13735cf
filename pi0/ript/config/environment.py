"""Settings that come from environment variables: switches, folders, and which runner collects episodes."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pi0.ript.config.base import ConfigError
from pi0.ript.config.schema import TrainConfig

logger = logging.getLogger(__name__)

MEANINGS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
SAVE_VARIABLE = "PI0_DEBUG_SAVE_VIDEO"
FOLDER_VARIABLE = "PI0_DEBUG_IMAGE_DIR"
PROCESSED_VARIABLE = "DEBUG_SAVE_PROCESSED"

RunnerName = Literal["serial", "parallel"]

RUNNER_VARIABLE = "USE_RIPT_VLA_RUNNER"
RUNNER_KEY = "features.use_ript_vla_runner"


def read_switch(name: str, environ: Mapping[str, str]) -> bool | None:
    """Return what a variable says, in any case; unset or empty is None, no opinion.

    Raises:
        ConfigError: The variable holds something that is neither yes nor no.
    """
    text = environ[name].strip() if name in environ else ""
    if not text:
        return None
    if text.lower() not in MEANINGS:
        raise ConfigError(f"{name} must be one of {', '.join(MEANINGS)} or unset, got {text!r}")
    return MEANINGS[text.lower()]


def read_environment(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return (dotted key, text) of every setting that a variable gives.

    ``PI0_DEBUG_SAVE_VIDEO`` is ``video.save``, ``PI0_DEBUG_IMAGE_DIR`` is ``video.dir``.
    """
    chosen: list[tuple[str, str]] = []
    is_recording = read_switch(SAVE_VARIABLE, environ)
    if is_recording is not None:
        chosen.append(("video.save", str(is_recording).lower()))
    if environ.get(FOLDER_VARIABLE):
        chosen.append(("video.dir", environ[FOLDER_VARIABLE]))
    if read_switch(PROCESSED_VARIABLE, environ):
        logger.warning(
            "%s has no effect; %s=1 saves videos of what the policy observes",
            PROCESSED_VARIABLE,
            SAVE_VARIABLE,
        )
    return tuple(chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerChoice:
    """A runner and who chose it.

    Attributes:
        name: ``serial`` is LIBEROEnvRunner, ``parallel`` is PI0LiberoRunner.
        source: The environment variable or the dotted key that decided, for the announcement.
    """

    name: RunnerName
    source: str


def choose_runner(config: TrainConfig, environ: Mapping[str, str]) -> RunnerChoice:
    """Return the runner to use; a set, non-empty ``USE_RIPT_VLA_RUNNER`` wins over the configuration.

    Raises:
        ConfigError: The variable holds something that is neither yes nor no, or the serial runner is
            chosen for rollouts that are collected during updates or for simulators on other hosts.
    """
    is_parallel = read_switch(RUNNER_VARIABLE, environ)
    if is_parallel is None:
        choice = _choice(config.features.use_ript_vla_runner, RUNNER_KEY)
    else:
        choice = _choice(is_parallel, RUNNER_VARIABLE)
    for setting, is_set, otherwise in (
        ("training.overlap", config.training.overlap, "training.overlap to false"),
        ("env.backend ray", config.env.backend == "ray", "env.backend to inline"),
    ):
        if choice.name == "serial" and is_set:
            raise ConfigError(
                f"{setting} needs the parallel runner, {choice.source} chooses the serial one; "
                f"set {RUNNER_KEY} to true, unset {RUNNER_VARIABLE}, or set {otherwise}"
            )
    return choice


def _choice(is_parallel: bool, source: str) -> RunnerChoice:  # noqa: FBT001 - private, one meaning
    return RunnerChoice(name="parallel" if is_parallel else "serial", source=source)
