"""Where the rollouts of one task begin: in LIBERO's own states, or in those that the caller brings."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pi0.ript.config.task import TaskConfig
from pi0.ript.env.checks import check_state
from pi0.ript.env.suites import initial_states, make_initial_state, split
from pi0.ript.types import InitialState

States = NDArray[np.float64] | Sequence[NDArray[np.float64]]


def practice_states(suite: str, task_id: int, task: TaskConfig, count: int) -> list[InitialState]:
    """Return LIBERO's own states in order, without the held-out ones, over and over."""
    train, _ = split(task.num_held_out_states)
    return [
        make_initial_state(suite, task_id, train[k % len(train)], task.fixture_seed)
        for k in range(count)
    ]


def brought_states(
    suite: str, task_id: int, states: States, fixture_seed: int, count: int
) -> list[InitialState]:
    """Return the first ``count`` of the caller's own states, each a row of numbers.

    Raises:
        ValueError: There are too few of them, or one is not a state of this task.
    """
    if len(states) < count:
        raise ValueError(
            f"rollouts_per_env={count} needs as many initial states, got {len(states)}"
        )
    arrays = [np.asarray(state, dtype=np.float64) for state in states][:count]
    length = initial_states(suite, task_id).shape[1]
    for state in arrays:
        check_state(state, length, f"{suite} task {task_id}")
    return [
        InitialState(suite=suite, task_id=task_id, index=-1, fixture_seed=fixture_seed, state=state)
        for state in arrays
    ]
