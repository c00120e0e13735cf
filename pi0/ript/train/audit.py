"""Do rollouts and trainer mean the same policy? Checked at unchanged weights, before every update.

Ratios of 1 do not prove it: a density may be scored that was never sampled from. So stored transitions are
compared with what the trainer says they were drawn from: ``z = (x_next - mean) / std`` must be standard
normal where noise was injected, and ``x_next`` must be the Euler step everywhere else.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pi0.sampler import Schedule, transition_means

# Beyond sampling error: what rounding may add. Half precision differs between batch shapes.
Z_MEAN_SLACK, Z_VARIANCE_SLACK = 0.05, 0.1
STANDARD_ERRORS = 5.0
OFF_MASK_BOUND = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
# Half the usual clip range: beyond it rounding alone would be clipped.
LOG_RATIO_BOUND = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What was found.

    Attributes:
        z_mean: Mean of z over all scored entries.
        z_variance: Variance of z.
        off_mask_error: Largest distance of an entry without noise from its Euler step.
        count: Scored entries.
    """

    z_mean: float
    z_variance: float
    off_mask_error: float
    count: int

    def require_sound(self, compute_dtype: torch.dtype) -> None:
        """Raise FloatingPointError with one line if rollouts and trainer disagree."""
        mean_bound = Z_MEAN_SLACK + STANDARD_ERRORS * self.count**-0.5
        variance_bound = Z_VARIANCE_SLACK + STANDARD_ERRORS * (2 / self.count) ** 0.5
        self._require("mean of z", abs(self.z_mean), mean_bound)
        self._require("variance of z minus 1", abs(self.z_variance - 1.0), variance_bound)
        self._require("step without noise", self.off_mask_error, OFF_MASK_BOUND[compute_dtype])

    def _require(self, what: str, found: float, bound: float) -> None:
        if not found <= bound:
            raise FloatingPointError(
                f"rollouts and trainer disagree at unchanged weights: {what} off by {found:.3g}, "
                f"allowed {bound:.3g}; was the policy changed between acting and learning?"
            )


def audit_transitions(
    chains: Tensor, velocity: Tensor, is_scored: Tensor, num_executed: int, schedule: Schedule
) -> Audit:
    """Compare stored chains with the velocities of the trainer.

    Args:
        chains: Float32 [b, S + 1, H, A].
        velocity: Float32 [b, S, H, A], of the policy that drew the chains.
        is_scored: Bool [b, S], transitions drawn with noise.
        num_executed: h, actions with noise.
        schedule: Grid and noise.
    """
    x, x_next = chains[:, :-1], chains[:, 1:]
    noisy = torch.zeros_like(x, dtype=torch.bool)
    noisy[:, :, :num_executed, :7] = is_scored[:, :, None, None]
    stds = torch.tensor(schedule.stds, dtype=x.dtype, device=x.device)[:, None, None]
    z = ((x_next - transition_means(x, velocity, schedule)) / stds)[noisy].double()
    euler_error = (x_next - (x - schedule.dt * velocity)).abs()
    return Audit(
        z_mean=float(z.mean()),
        z_variance=float(z.var()),
        off_mask_error=float(torch.where(noisy, 0.0, euler_error).max()),
        count=z.numel(),
    )


def require_unit_ratios(largest: float) -> None:
    """Raise FloatingPointError if scoring the same rows twice does not give the same numbers."""
    if not largest <= LOG_RATIO_BOUND:
        raise FloatingPointError(
            f"log ratios at unchanged weights reach {largest:.3g}, allowed {LOG_RATIO_BOUND}; "
            "scoring is not repeatable on this device: set policy.overrides.dtype to float32"
        )
