"""How sure a success rate is, and how sure a change of it.

Episodes that begin in one initial state resemble each other, so n of them say less than n of different states.
Intervals are those of as many independent episodes as say equally much: n over the design effect (Kish 1965).
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

Z_95 = 1.959963984540054  # the 97.5 % quantile of the normal distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessRate:
    """Successes out of n with the 95 % Wilson score interval, as shares in [0, 1].

    Where episodes share initial states the interval is wider, see ``design_effect``.

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


def success_rate(outcomes: Sequence[bool], states: Sequence[Hashable] | None = None) -> SuccessRate:
    """Return the success rate of at least one episode with its interval.

    Args:
        outcomes: Of n episodes.
        states: In which initial state each began; None if no two began in the same one.
    """
    assert outcomes, "a success rate needs at least one episode"
    n, successes = len(outcomes), sum(outcomes)
    effect = design_effect(outcomes, states)
    low, high = wilson(successes / effect, n / effect)
    return SuccessRate(num_successes=successes, n=n, rate=successes / n, low=low, high=high)


def design_effect(values: Sequence[float], states: Sequence[Hashable] | None) -> float:
    """Return how many times the variance of a mean grows because values share initial states; at least 1.

    It is the variance between states over the one of independent values. Values that are all equal show
    no variance: there as many count as there are states. A single state has no others to be compared with,
    and what is said is about it.
    """
    if states is None or len(set(states)) in (1, len(states)):
        return 1.0
    mean = sum(values) / len(values)
    sums: defaultdict[Hashable, float] = defaultdict(float)
    for value, state in zip(values, states, strict=True):
        sums[state] += value - mean
    independent = sum((value - mean) ** 2 for value in values)
    if independent == 0:
        return len(values) / len(sums)
    between = len(sums) / (len(sums) - 1) * sum(total**2 for total in sums.values())
    return max(1.0, between / independent)


def wilson(num_successes: float, n: float, z: float = Z_95) -> tuple[float, float]:
    """Return the score interval of a binomial share (Wilson 1927).

    With p the observed share, the interval is centered on ``(p + z^2 / 2n) / (1 + z^2 / n)``.
    """
    p = num_successes / n
    scale = 1 + z**2 / n
    center = (p + z**2 / (2 * n)) / scale
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / scale
    # At 0 and n successes one end is 0 or 1 exactly; rounding must not push it outside.
    return max(0.0, center - half), min(1.0, center + half)


def paired_change(
    before: Sequence[bool], after: Sequence[bool], states: Sequence[Hashable] | None = None
) -> PairedChange:
    """Compare two policies on the same episodes, pair by pair.

    The interval is the adjusted Wald interval of Bonett and Price (2012), which adds one to each
    discordant count and stays honest for few discordant pairs. The test takes pairs as independent.

    Args:
        before: Outcomes of one policy.
        after: Of the other, on the same episodes.
        states: In which initial state each began; None if no two began in the same one.
    """
    assert len(before) == len(after) > 0, f"not paired: {len(before)} and {len(after)} episodes"
    changes = [int(now) - int(was) for was, now in zip(before, after, strict=True)]
    gained, lost = changes.count(1), changes.count(-1)
    effect = design_effect(changes, states)
    n = len(changes) / effect
    up, down = (gained / effect + 1) / (n + 2), (lost / effect + 1) / (n + 2)
    half = Z_95 * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return PairedChange(
        difference=(gained - lost) / len(changes),
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


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values of m tests adjusted so that the chance of one false alarm among them stays as stated.

    Holm's step-down method (1979): the smallest counts m times, the next m - 1 times, and none is below
    an adjusted one that was smaller.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, (len(p_values) - rank) * p_values[index])
        adjusted[index] = min(1.0, largest)
    return adjusted
