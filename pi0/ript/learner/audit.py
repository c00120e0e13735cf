"""Do rollouts and trainer use the same policy? Checked at unchanged weights, before every update.

Ratios of 1 do not prove it: a density may be scored that was never sampled from. So stored transitions are
compared with what the trainer assumes they were drawn from: ``z = (x_next - mean) / std`` must be standard
normal where noise was injected, and ``x_next`` must be the Euler step everywhere else. A change of the mean
that is small beside the noise hides in z; so the noise is drawn again from its seed, which gives the mean of
the behavior weights, and the log ratio of the trainer to it must be 0 up to rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pi0.card import ENV_ACTION_DIM
from pi0.ript.algo.transitions import log_ratio
from pi0.sampler import Schedule, transition_means

# Beyond sampling error: what rounding may add.
Z_MEAN_SLACK, Z_VARIANCE_SLACK = 0.05, 0.1
STANDARD_ERRORS = 5.0
# In float32, whose rounding is far below them. Half precision has bounds of its own, from what is predicted.
FLOAT32_OFF_MASK_BOUND, FLOAT32_RATIO_BOUND = 1e-3, 0.05
HALF_UNIT = torch.finfo(torch.bfloat16).eps / 2
# How many times the prediction is allowed, which rounds every velocity once: layers add their rounding.
# Measured with bfloat16 against float32: 0.9 to 1.7 times. In the real pi0 on a GPU, between calls of other
# sizes: 0.16 with ten denoise steps, 2.5 times for five executed actions and 1.8 times for ten.
ROUNDING_SLACK = 4.0
# The largest of a million normal numbers lies five deviations out, of ten thousand four.
LARGEST_DEVIATION = 6.0
# Half the usual clip range: beyond it rounding alone would be clipped.
LOG_RATIO_BOUND = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What was found.

    Attributes:
        z_mean: Mean of z over all scored entries.
        z_variance: Variance of z.
        off_mask_error: Largest distance of an entry without noise from its Euler step.
        log_ratio_mean: Mean log ratio of the trainer to the behavior weights, per denoise step and of the
            step where it is furthest from 0.
        log_ratio_std: Its standard deviation, of the step where that is largest.
        count: Scored entries.
        fewest: Scored samples of the denoise step that has fewest, of those that have any.
        rounding: ``log_ratio_std`` as predicted for bfloat16, see ``predicted_rounding``.
        step_rounding: What rounding to bfloat16 is predicted to do to an Euler step, root mean square.
    """

    z_mean: float
    z_variance: float
    off_mask_error: float
    log_ratio_mean: float
    log_ratio_std: float
    count: int
    fewest: int = 1
    rounding: float = 0.0
    step_rounding: float = 0.0

    def ratio_bounds(self, compute_dtype: torch.dtype) -> tuple[float, float]:
        """Return how far mean and standard deviation of the log ratio may be off.

        Means that are off by some standard deviations D give log ratios of mean -D^2 / 2 and deviation D, so
        the bound of D bounds the mean as well, but for what few samples make of it.
        """
        if compute_dtype == torch.float32:
            return FLOAT32_RATIO_BOUND, FLOAT32_RATIO_BOUND
        std = ROUNDING_SLACK * self.rounding
        sampling = max(self.log_ratio_std, self.rounding) * self.fewest**-0.5
        return std**2 / 2 + STANDARD_ERRORS * sampling, std

    def off_mask_bound(self, compute_dtype: torch.dtype) -> float:
        """Return how far an entry without noise may be from its Euler step."""
        if compute_dtype == torch.float32:
            return FLOAT32_OFF_MASK_BOUND
        return ROUNDING_SLACK * LARGEST_DEVIATION * self.step_rounding

    def require_sound(self, compute_dtype: torch.dtype) -> None:
        """Raise FloatingPointError with one line if rollouts and trainer disagree."""
        mean_bound = Z_MEAN_SLACK + STANDARD_ERRORS * self.count**-0.5
        variance_bound = Z_VARIANCE_SLACK + STANDARD_ERRORS * (2 / self.count) ** 0.5
        self._require("mean of z", abs(self.z_mean), mean_bound)
        self._require("variance of z minus 1", abs(self.z_variance - 1.0), variance_bound)
        self._require("step without noise", self.off_mask_error, self.off_mask_bound(compute_dtype))
        mean_bound, std_bound = self.ratio_bounds(compute_dtype)
        self._require("mean log ratio", abs(self.log_ratio_mean), mean_bound)
        self._require("standard deviation of the log ratio", self.log_ratio_std, std_bound)

    def _require(self, what: str, found: float, bound: float) -> None:
        if not found <= bound:
            raise FloatingPointError(
                f"rollouts and trainer disagree at unchanged weights: {what} off by {found:.3g}, "
                f"allowed {bound:.3g}; was the policy changed between acting and learning?"
            )


def audit_transitions(
    chains: Tensor,
    velocity: Tensor,
    is_scored: Tensor,
    noise: Tensor,
    num_executed: int,
    schedule: Schedule,
) -> Audit:
    """Compare stored chains with the velocities of the trainer.

    Args:
        chains: Float32 [b, S + 1, H, A].
        velocity: Float32 [b, S, H, A], of the policy that drew the chains, as the trainer computes it.
        is_scored: Bool [b, S], transitions drawn with noise.
        noise: Float32 [b, S + 1, H, A], what the policy drew the chains with.
        num_executed: h, actions with noise.
        schedule: Grid and noise.
    """
    x, x_next = chains[:, :-1], chains[:, 1:]
    noisy = torch.zeros_like(x, dtype=torch.bool)
    noisy[:, :, :num_executed, :ENV_ACTION_DIM] = is_scored[:, :, None, None]
    stds = torch.tensor(schedule.stds, dtype=x.dtype, device=x.device)[:, None, None]
    means = transition_means(x, velocity, schedule)
    z = ((x_next - means) / stds)[noisy].double()
    behavior_means = x_next.double() - stds * noise[:, 1:].double()
    entries = (slice(None), slice(None), slice(num_executed), slice(ENV_ACTION_DIM))
    log_ratios = log_ratio(
        means[entries].double(), behavior_means[entries], x_next[entries], stds.flatten()
    )
    euler_error = (x_next - (x - schedule.dt * velocity)).abs()
    return Audit(
        z_mean=float(z.mean()),
        z_variance=float(z.var()),
        off_mask_error=float(torch.where(noisy, 0.0, euler_error).max()),
        log_ratio_mean=max(_by_step(log_ratios, is_scored, torch.mean), key=abs),
        log_ratio_std=max(_by_step(log_ratios, is_scored, partial(torch.std, correction=0))),
        count=z.numel(),
        fewest=min(int(count) for count in is_scored.sum(dim=0) if count),
        rounding=predicted_rounding(velocity[entries], is_scored, schedule),
        step_rounding=HALF_UNIT * schedule.dt * float(velocity.double().square().mean()) ** 0.5,
    )


def predicted_rounding(velocity: Tensor, is_scored: Tensor, schedule: Schedule) -> float:
    """Return the standard deviation of log ratios where every velocity is rounded to bfloat16 once.

    A velocity v is off by up to v / 256, and one that is off by e moves the mean of transition k by ``d (1 + c_k (1 - t_k)) e``; the log ratio's
    deviation is the length of that over all scored entries, in standard deviations of the transition.

    Args:
        velocity: [b, S, h, 7], of scored entries.
        is_scored: Bool [b, S].
        schedule: Grid and noise.

    Returns:
        That of the denoise step where it is largest, of those that were scored.
    """
    lengths = velocity.double().square().sum(dim=(-2, -1))
    predicted = [0.0]
    for step in range(schedule.num_steps):
        scored = lengths[:, step][is_scored[:, step]]
        if scored.numel():
            weight = schedule.score_weights[step] * (1.0 - schedule.times[step])
            gain = schedule.dt * (1.0 + weight) / schedule.stds[step]
            predicted.append(HALF_UNIT * gain * float(scored.mean()) ** 0.5)
    return max(predicted)


def _by_step(
    log_ratios: Tensor, is_scored: Tensor, statistic: Callable[[Tensor], Tensor]
) -> list[float]:
    """Return a statistic of the scored samples of every denoise step that has any."""
    steps = zip(log_ratios.unbind(dim=1), is_scored.unbind(dim=1), strict=True)
    return [float(statistic(ratios[scored])) for ratios, scored in steps if bool(scored.any())]


def require_unit_ratios(largest: float) -> None:
    """Raise FloatingPointError if scoring the same samples twice does not give the same numbers."""
    if not largest <= LOG_RATIO_BOUND:
        raise FloatingPointError(
            f"log ratios at unchanged weights reach {largest:.3g}, allowed {LOG_RATIO_BOUND}; "
            "scoring is not repeatable on this device: set policy.overrides.dtype to float32"
        )
