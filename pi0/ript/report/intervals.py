"""How sure a success rate is, and how sure a change of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

Z_95 = 1.959963984540054  # the 97.5 % quantile of the normal distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessRate:
    """Successes out of n with the 95 % Wilson score interval, as shares in [0, 1].

    Example: ``SuccessRate(num_successes=57, n=100, rate=0.57, low=0.472, high=0.663)``.
    """

    num_successes: int
    n: int
    rate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.rate:.1%} ({self.num_successes}/{self.n}, 95 % [{self.low:.1%}, {self.high:.1%}])"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedChange:
    """Success after minus success before, on the same episodes.

    Attributes:
        difference: Change of the success rate, a share in [-1, 1].
        low: Lower end of its 95 % interval.
        high: Upper end of its 95 % interval.
        num_gained: Episodes that failed before and succeed now.
        num_lost: Episodes that succeeded before and fail now.
        p_value: Exact two-sided McNemar test of "gains and losses are equally likely".
    """

    difference: float
    low: float
    high: float
    num_gained: int
    num_lost: int
    p_value: float

    def __str__(self) -> str:
        points = [f"{100 * value:+.1f}" for value in (self.difference, self.low, self.high)]
        return (
            f"{points[0]} points (95 % [{points[1]}, {points[2]}], "
            f"gained {self.num_gained}, lost {self.num_lost}, p = {self.p_value:.2g})"
        )


def success_rate(outcomes: Sequence[bool]) -> SuccessRate:
    """Return the success rate of at least one episode with its Wilson interval."""
    assert outcomes, "a success rate needs at least one episode"
    n, successes = len(outcomes), sum(outcomes)
    low, high = wilson(successes, n)
    return SuccessRate(num_successes=successes, n=n, rate=successes / n, low=low, high=high)


def wilson(num_successes: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Return the score interval of a binomial share (Wilson 1927).

    With p the observed share, the interval is centered on ``(p + z^2 / 2n) / (1 + z^2 / n)``.
    """
    p = num_successes / n
    scale = 1 + z**2 / n
    center = (p + z**2 / (2 * n)) / scale
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / scale
    # At 0 and n successes one end is 0 or 1 exactly; rounding must not push it outside.
    return max(0.0, center - half), min(1.0, center + half)


def paired_change(before: Sequence[bool], after: Sequence[bool]) -> PairedChange:
    """Compare two policies on the same episodes, pair by pair.

    The interval is the adjusted Wald interval of Bonett and Price (2012), which adds one to each
    discordant count and stays honest for few discordant pairs.
    """
    assert len(before) == len(after) > 0, f"not paired: {len(before)} and {len(after)} episodes"
    n = len(before)
    gained = sum(now and not was for was, now in zip(before, after, strict=True))
    lost = sum(was and not now for was, now in zip(before, after, strict=True))
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = Z_95 * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return PairedChange(
        difference=(gained - lost) / n,
        low=max(-1.0, up - down - half),
        high=min(1.0, up - down + half),
        num_gained=gained,
        num_lost=lost,
        p_value=mcnemar(gained, lost),
    )


def mcnemar(num_gained: int, num_lost: int) -> float:
    """Return the exact two-sided p-value: gains among the discordant pairs are Binomial(n, 1/2)."""
    n = num_gained + num_lost
    tail = sum(math.comb(n, k) for k in range(min(num_gained, num_lost) + 1))
    return min(1.0, 2 * tail / 2**n)
