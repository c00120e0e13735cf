"""What the parts of a rollout take, as measured, and how one occurrence of them differs from the mean."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Part = Literal["simulation", "rendering", "restore", "inference", "transfer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What things take, in seconds unless noted.

    Attributes:
        step_s: One control step in a worker.
        render_s: The images of one observation.
        restore_s: Bringing a slot to a settled initial state, with its observation.
        request_s: What a request takes a worker besides.
        inference_s: One policy call of ``batch_size`` samples.
        reply_s: What a reply takes the scheduler's thread.
        observation_bytes: Bytes of an observation on the network.
        slowdown: Share of its speed that a core loses while all cores of its host are busy.
        spread: Standard deviation of every duration as a share of its mean.
    """

    step_s: float
    render_s: float
    restore_s: float
    request_s: float
    inference_s: float
    reply_s: float
    observation_bytes: int
    slowdown: float = 0.0
    spread: float = 0.0


def durations(spread: float, seed: int) -> Callable[[float], float]:
    """Return what draws a duration, given its mean; the same draws for the same seed.

    Args:
        spread: Standard deviation as a share of the mean.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)

    def draw(mean: float) -> float:
        if not spread or not mean:
            return mean
        return float(mean * rng.gamma(spread**-2, spread**2))

    return draw
