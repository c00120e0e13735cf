"""What a step leaves behind must be finite: its figures and everything in its checkpoint."""

import math
from collections.abc import Iterable, Mapping

from torch import Tensor

from pi0.policy import Pi0Policy
from pi0.ript.engine.spreading import is_finite


class StepNotFiniteError(ValueError):
    """A step left a number behind that is not finite; one line that names it."""


def require_finite_metrics(step: int, metrics: Mapping[str, float | str]) -> None:
    """Raise ``StepNotFiniteError`` for a figure that is NaN or infinite."""
    for name, value in metrics.items():
        if not isinstance(value, str) and not math.isfinite(value):
            raise StepNotFiniteError(
                f"step {step}: {name} is {value}; the step is not saved, "
                "its other figures are in metrics.jsonl"
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
    """Return the weights that practice can change, by name."""
    for name, parameter in policy.network.named_parameters():
        if parameter.requires_grad:
            yield f"weight {name}", parameter
