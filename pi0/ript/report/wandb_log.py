"""Metrics for Weights & Biases. Optional: only a run with ``logging.wandb`` imports this file."""

import re
from collections.abc import Mapping
from pathlib import Path

import wandb

from pi0.ript.config.schema import LoggingConfig


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
        self._run = wandb.init(
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
