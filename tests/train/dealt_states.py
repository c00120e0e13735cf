"""An order of initial states that is a function of their number."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pi0.ript.types import InitialState


def numbered_state(number: int) -> InitialState:
    """Return a state whose index is its number."""
    return InitialState(
        suite="libero_goal", task_id=7, index=number, fixture_seed=0, state=np.zeros(3)
    )


@dataclass
class DealtStates:
    """Deals ``state_of(0)``, ``state_of(1)``, ..."""

    state_of: Callable[[int], InitialState] = numbered_state
    cursor: int = 0

    def next(self) -> InitialState:
        """Return the next state."""
        self.cursor += 1
        return self.state_of(self.cursor - 1)
