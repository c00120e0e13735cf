"""Which run a path is in: people name a checkpoint, or a file, where a run directory is meant."""

import os
import re
from pathlib import Path

RUN_CONFIG_NAME = "config.yaml"
SFT_NAME = "sft.json"  # in its place where a policy was fine-tuned on demonstrations
CHECKPOINTS = "checkpoints"


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run directory."""
    return (folder / RUN_CONFIG_NAME).is_file()


def find_run(path: Path) -> Path | None:
    """Return the run directory that ``path`` is or lies in; None if there is none.

    Below a run are its checkpoints, so a folder around ``path`` must hold those to count.
    """
    if is_run(path):
        return path
    for start in (_absolute(path), path.resolve()):  # what a link says, then where it leads
        for folder in start.parents:
            if is_run(folder) and (folder / CHECKPOINTS).is_dir():
                return folder
    return None


def step_of(path: Path, run: Path) -> int | None:
    """Return the step of the numbered checkpoint that ``path`` is in; None for anything else of the run."""
    below, above = _absolute(path), _absolute(run) / CHECKPOINTS
    if below == above or not below.is_relative_to(above):
        return None
    name = below.relative_to(above).parts[0]
    return int(name) if re.fullmatch("[0-9]{1,18}", name) else None


def newest_step(run: Path) -> int | None:
    """Return the step of the newest checkpoint; None if there is none."""
    steps = [int(p.name) for p in (run / CHECKPOINTS).glob("[0-9]*") if p.name.isdecimal()]
    return max(steps, default=None)


def newest_run_in(folder: Path) -> Path | None:
    """Return the run directory below ``folder`` whose configuration was written last."""
    configs = folder.glob(f"*/{RUN_CONFIG_NAME}")
    newest = max(configs, key=lambda path: path.stat().st_mtime, default=None)
    return None if newest is None else newest.parent


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # without "..", but links stay as they are written
