"""Which runner collects episodes: the YAML setting, or the environment variable that overrides it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pi0.ript.config.environment import read_switch
from pi0.ript.config.errors import ConfigError
from pi0.ript.config.schema import TrainConfig

RunnerName = Literal["serial", "parallel"]

RUNNER_VARIABLE = "USE_RIPT_VLA_RUNNER"
RUNNER_KEY = "features.use_ript_vla_runner"


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
            chosen for practice that goes on during updates or for simulators on other hosts.
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
