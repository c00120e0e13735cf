"""Metrics for Weights & Biases. Optional: only a run with ``logging.wandb`` imports this file."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb
from wandb.errors import Error as WandbError

from pi0.ript.config.base import ConfigError
from pi0.ript.config.schema import LoggingConfig

MODE_VARIABLE = "WANDB_MODE"
# "run" and "dryrun" are what wandb called the first two earlier, and still takes.
MODES = ("online", "offline", "disabled", "shared", "run", "dryrun")
WITHOUT_ACCOUNT = ("offline", "disabled", "dryrun")


def require_wandb(logging: LoggingConfig, environment: Mapping[str, str]) -> None:
    """Refuse a run whose metrics wandb would not take; on a terminal wandb asks for a key that it lacks.

    Args:
        logging: Of the run; ``wandb`` is on.
        environment: The environment variables of this process, which wandb reads too.

    Raises:
        ConfigError: A mode that does not exist, no key, or one that cannot be one; what to type.
    """
    mode = logging.wandb_mode or environment.get(MODE_VARIABLE, "").strip() or "online"
    if mode not in MODES:
        raise ConfigError(
            f"{MODE_VARIABLE} must be one of {', '.join(MODES)} or unset, got {mode!r}"
        )
    if mode in WITHOUT_ACCOUNT:
        return
    try:
        wandb.login()
    except (WandbError, ValueError) as error:
        raise ConfigError(
            f"logging.wandb is true, but wandb cannot log in ({' '.join(str(error).split())}); run 'wandb "
            "login', set WANDB_API_KEY, or add --logging.wandb_mode offline"
        ) from None


class WandbReporter:
    """Logs the metrics of a step; a resumed run goes on under the same identity.

    The mode ``offline`` keeps everything in ``wandb/`` of the run directory; ``wandb sync`` uploads it later.
    """

    def __init__(
        self, run_dir: Path, logging: LoggingConfig, *, settings: Mapping[str, object]
    ) -> None:
        """Begin or continue the run.

        Args:
            run_dir: The run directory; its name identifies the run within the project.
            logging: Project, entity, name and mode.
            settings: The resolved configuration.
        """
        identity = re.sub(r"[^A-Za-z0-9_-]+", "_", run_dir.resolve().name)[:64]
        self._run = _begin(
            project=logging.wandb_project,
            entity=logging.wandb_entity or None,
            mode=logging.wandb_mode,
            name=logging.wandb_name or run_dir.resolve().name,
            id=identity,
            resume="allow",
            dir=str(run_dir),
            config=dict(settings),
            settings=wandb.Settings(console="off", silent=True),
        )

    def log(self, step: int, metrics: Mapping[str, float | str]) -> None:
        """Log the metrics of a step."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Flush; offline this leaves a folder that ``wandb sync`` takes."""
        self._run.finish()


def _begin(**settings: Any) -> wandb.Run:
    try:
        return wandb.init(**settings)
    except WandbError as error:
        raise ConnectionError(
            f"wandb could not begin the run ({' '.join(str(error).split())}); begin again with "
            "--logging.wandb_mode offline"
        ) from None
