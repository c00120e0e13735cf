"""Which faults happen when: drawn from a seed, so that a soak can be repeated."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from pi0.ript.seeding import derive_seed

FaultKind = Literal["kill", "stop", "corrupt", "trainer_kill"]
"""SIGKILL or SIGSTOP of a worker, nonsense in its replies, SIGKILL of the trainer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFault:
    """One fault.

    Attributes:
        time_s: When, in seconds after the run began.
        kind: What is done.
        seed: Decides the victim and what nonsense it is made to send.
    """

    time_s: float
    kind: FaultKind
    seed: int


def plan_faults(seed: int, minutes: float, counts: Mapping[FaultKind, int]) -> list[PlannedFault]:
    """Return so many faults of each kind at random moments, in order of time."""
    draw = np.random.default_rng(derive_seed("faults", seed))
    kinds = [kind for kind in get_args(FaultKind) for _ in range(counts.get(kind, 0))]
    times = draw.uniform(0.0, 60.0 * minutes, len(kinds))
    planned = [
        PlannedFault(time_s=float(time_s), kind=kind, seed=derive_seed("fault", seed, number))
        for number, (kind, time_s) in enumerate(zip(kinds, times, strict=True))
    ]
    return sorted(planned, key=lambda fault: fault.time_s)
