"""The endless, seeded order in which situations are practised."""

from collections.abc import Sequence

import numpy as np

from pi0.ript.seeding import derive_seed
from pi0.ript.types import InitialState


class InitialStateSampler:
    """Deals every candidate once per epoch, reshuffled each epoch; resumable from a number.

    Example: ``InitialStateSampler(states, seed=42, position=120).next()``.

    Args:
        candidates: Initial states to practise; order matters for reproducibility.
        seed: Run seed.
        position: States dealt before; a stored ``position`` continues where it was read.
    """

    def __init__(self, candidates: Sequence[InitialState], seed: int, position: int = 0) -> None:
        if not candidates:
            raise ValueError("no initial state to practise: check task.task_names_to_use")
        if position < 0:
            raise ValueError(f"position of the initial-state order must be >= 0, got {position}")
        self._candidates = tuple(candidates)
        self._seed = seed
        self._position = position
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    @property
    def position(self) -> int:
        """Return how many states have been dealt."""
        return self._position

    def next(self) -> InitialState:
        """Return the next state of the order."""
        epoch, offset = divmod(self._position, len(self._candidates))
        if epoch != self._epoch:
            generator = np.random.default_rng(derive_seed(self._seed, "initial_states", epoch))
            self._order = generator.permutation(len(self._candidates))
            self._epoch = epoch
        self._position += 1
        return self._candidates[self._order[offset]]
