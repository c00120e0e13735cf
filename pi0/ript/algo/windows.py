"""Which decisions of an episode become rows."""

import numpy as np
from numpy.typing import NDArray

from pi0.ript.config.algo import CfgConfig
from pi0.ript.seeding import derive_seed


def window_indices(length: int, windows: CfgConfig, seed: int) -> NDArray[np.int64]:
    """Return decision numbers in rising order.

    Args:
        length: Executed decisions of the episode.
        windows: ``windowing_mode`` and its limits.
        seed: Of the episode; chooses under ``random``.
    """
    everything = np.arange(length)
    match windows.windowing_mode:
        case "all":
            return everything
        case "last":
            return everything[-1:]
        case "slide":
            return everything[:: windows.window_stride][: windows.max_windows_per_episode]
        case "random":
            rng = np.random.default_rng(derive_seed(seed, "windows"))
            count = min(length, windows.max_windows_per_episode)
            return np.sort(rng.choice(length, count, replace=False))
