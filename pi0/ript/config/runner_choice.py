"""Which runner collects episodes: the YAML setting, or the environment variable that overrides it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pi0.ript.config.errors import ConfigError
from pi0.ript.config.schema import TrainConfig

RunnerName = Literal["serial", "parallel"]

RUNNER_VARIABLE = "USE_RIPT_VLA_RUNNER"
RUNNER_KEY = "features.use_ript_vla_runner"
_MEANINGS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


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
        ConfigError: The variable holds something that is neither yes nor no.
    """
    text = environ[RUNNER_VARIABLE].strip() if RUNNER_VARIABLE in environ else ""
    if not text:
        return _choice(config.features.use_ript_vla_runner, RUNNER_KEY)
    if text.lower() not in _MEANINGS:
        raise ConfigError(
            f"{RUNNER_VARIABLE} must be one of {', '.join(_MEANINGS)} or unset, got {text!r}"
        )
    return _choice(_MEANINGS[text.lower()], RUNNER_VARIABLE)


def _choice(is_parallel: bool, source: str) -> RunnerChoice:  # noqa: FBT001 - private, one meaning
    return RunnerChoice(name="parallel" if is_parallel else "serial", source=source)
