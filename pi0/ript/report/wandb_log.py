"""Figures for Weights & Biases. Optional: only a run with ``logging.wandb`` imports this file."""

import re
from collections.abc import Mapping
from pathlib import Path

import wandb


class WandbReporter:
    """Logs the figures of a step; a resumed run goes on under the same identity.

    The environment variable ``WANDB_MODE=offline`` keeps everything in ``wandb/`` of the run directory, as
    wandb documents; ``wandb sync`` uploads it later.
    """

    def __init__(
        self, run_dir: Path, *, project: str, name: str | None, settings: Mapping[str, object]
    ) -> None:
        """Begin or continue the run.

        Args:
            run_dir: The run directory; its name identifies the run within the project.
            project: Project of the run.
            name: Name of the run; None takes that of the run directory.
            settings: The resolved configuration.
        """
        identity = re.sub(r"[^A-Za-z0-9_-]+", "_", run_dir.resolve().name)[:64]
        self._run = wandb.init(
            project=project,
            name=name or run_dir.resolve().name,
            id=identity,
            resume="allow",
            dir=str(run_dir),
            config=dict(settings),
            settings=wandb.Settings(console="off", silent=True),
        )

    def log(self, step: int, metrics: Mapping[str, float | str]) -> None:
        """Log the figures of a step."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Flush; offline this leaves a folder that ``wandb sync`` takes."""
        self._run.finish()
