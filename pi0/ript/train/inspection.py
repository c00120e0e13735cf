"""Keep the batch of an update that failed, so that someone can look at it.

``<run>/inspection/step_<n>/`` holds ``batch.safetensors`` (chains, advantages, weights, proprioception and
pictures by row) and ``batch.json`` (instructions and the reason).
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from pi0.ript.types import Batch


class UpdateError(ValueError):
    """An update could not be done; one line with the reason and where its batch lies."""


@contextmanager
def inspectable(batch: Batch, run_dir: Path, step: int) -> Iterator[None]:
    """Turn a FloatingPointError inside the block into an ``UpdateError``, after saving the batch.

    No checkpoint is written on the way: the newest one is from before the failure.

    Args:
        batch: What the update works on.
        run_dir: Run directory.
        step: RIPT step.
    """
    try:
        yield
    except FloatingPointError as error:
        folder = save_batch(batch, run_dir / "inspection" / f"step_{step}", str(error))
        raise UpdateError(
            f"step {step}: {error}; the batch is in {folder}, the last good checkpoint is "
            f"{run_dir / 'checkpoints' / 'last'}"
        ) from error


def save_batch(batch: Batch, folder: Path, reason: str) -> Path:
    """Write a batch and the reason for keeping it; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "chains": batch.chains,
        "advantages": batch.advantages,
        "weights": batch.weights,
        "is_success": batch.is_success,
        "is_scored": batch.is_scored,
        "proprio": np.stack([look.proprio for look in batch.observations]),
        "images": np.stack([look.images for look in batch.observations]),
    }
    tensors = {name: torch.from_numpy(array).contiguous() for name, array in arrays.items()}
    save_file(tensors, folder / "batch.safetensors")
    content = {"reason": reason, "tasks": list(batch.tasks)}
    (folder / "batch.json").write_text(json.dumps(content, indent=1) + "\n")
    return folder
