"""Numbers that are not finite end a run; what it failed on is kept, so that someone can look at it.

``<run>/inspection/step_<n>/`` holds, of an update that failed, ``batch.safetensors`` (chains, advantages,
weights, proprioception and images by sample) and ``batch.json`` (instructions and the reason), or with several
ranks ``batch_rank_<r>.*`` of every rank, each with its own samples, and of an episode that met a number that is
not finite, ``decision.safetensors`` (proprioception, images, the actions and the denoising chain) and
``decision.json`` (which episode, and the reason).
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file
from torch import Tensor

from pi0.policy import Pi0Policy
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.engine.sharded_tensors import is_finite
from pi0.ript.env.rollout.policy_call import NotFiniteError
from pi0.ript.interfaces import Ranks
from pi0.ript.types import Batch


class StepNotFiniteError(ValueError):
    """A step left a number behind that is not finite; one line that names it."""


def require_finite_metrics(step: int, metrics: Mapping[str, float | str]) -> None:
    """Raise ``StepNotFiniteError`` for a metric that is NaN or infinite."""
    for name, value in metrics.items():
        if not isinstance(value, str) and not math.isfinite(value):
            raise StepNotFiniteError(
                f"step {step}: {name} is {value}; the step is not saved, "
                "its other metrics are in metrics.jsonl"
            )


def require_finite_tensors(step: int, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Raise ``StepNotFiniteError`` for a tensor that holds NaN or infinity."""
    for name, tensor in tensors:
        if not is_finite(tensor.detach()):
            raise StepNotFiniteError(
                f"step {step} is not saved: {name} holds NaN or infinity; "
                "earlier checkpoints are as they were"
            )


def trained_weights(policy: Pi0Policy) -> Iterable[tuple[str, Tensor]]:
    """Return the weights that training can change, by name."""
    for name, parameter in policy.network.named_parameters():
        if parameter.requires_grad:
            yield f"weight {name}", parameter


class InspectionError(ValueError):
    """A run cannot go on; one line with the reason and where its evidence lies."""


@contextmanager
def inspectable(
    batch: Batch, run_dir: Path, step: int, ranks: Ranks = SINGLE_PROCESS
) -> Iterator[None]:
    """Turn a FloatingPointError inside the block into an ``InspectionError``, after saving the batch.

    No checkpoint is written on the way: the newest one is from before the failure.

    Args:
        batch: What the update works on.
        run_dir: Run directory.
        step: RIPT step.
        ranks: The processes that fail together; each saves its own batch.
    """
    try:
        yield
    except FloatingPointError as error:
        content = {"reason": str(error), "tasks": list(batch.tasks)}
        name = "batch" if ranks.world_size == 1 else f"batch_rank_{ranks.rank}"
        kept = _keep(run_dir, step, name, _arrays_of_batch(batch), content)
        raise InspectionError(_line(run_dir, step, error, kept)) from error


@contextmanager
def inspectable_episodes(run_dir: Path, step: int) -> Iterator[None]:
    """Turn a ``NotFiniteError`` inside the block into an ``InspectionError``, after saving the policy step.

    Args:
        run_dir: Run directory.
        step: RIPT step, or the one after which is evaluated.
    """
    try:
        yield
    except NotFiniteError as error:
        state = error.request.initial_state
        content = {
            "reason": str(error),
            "task": error.task,
            "suite": state.suite,
            "task_id": state.task_id,
            "state_index": state.index,
            "fixture_seed": state.fixture_seed,
            "seed": error.request.seed,
        }
        kept = _keep(run_dir, step, "decision", _arrays_of_policy_step(error), content)
        raise InspectionError(_line(run_dir, step, error, kept)) from error


def _keep(
    run_dir: Path,
    step: int,
    name: str,
    arrays: Mapping[str, NDArray[Any]],
    content: Mapping[str, object],
) -> str:
    """Write the evidence; return in words where it is, or why it could not be written."""
    folder = run_dir / "inspection" / f"step_{step}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {k: np.ascontiguousarray(a) for k, a in arrays.items()}, folder / f"{name}.safetensors"
        )
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            (folder / f"{name}.safetensors").unlink(missing_ok=True)
        return f"the {name} could not be kept in {folder} ({error})"
    return f"the {name} is in {folder}"


def _line(run_dir: Path, step: int, error: Exception, kept: str) -> str:
    last = run_dir / "checkpoints" / "last"
    return f"step {step}: {error}; {kept}, the last good checkpoint is {last}"


def _arrays_of_batch(batch: Batch) -> dict[str, NDArray[Any]]:
    return {
        "chains": batch.chains,
        "advantages": batch.advantages,
        "weights": batch.weights,
        "is_success": batch.is_success,
        "is_scored": batch.is_scored,
        "num_executed": batch.num_executed,
        "proprio": np.stack([observation.proprio for observation in batch.observations]),
        "images": np.stack([observation.images for observation in batch.observations]),
    }


def _arrays_of_policy_step(error: NotFiniteError) -> dict[str, NDArray[Any]]:
    observation, chunk = error.observation, error.chunk
    response = {} if chunk is None else {"actions": chunk.actions, "chain": chunk.chain}
    return {"proprio": observation.proprio, "images": observation.images, **response}
