"""LIBERO's suites, their tasks and step limits."""

import difflib
import logging
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from libero.libero import get_libero_path
from libero.libero.benchmark import Task, task_maps

from pi0.ript.env.libero_files import require_libero_files
from pi0.ript.interfaces import HasProtocol, Policy, StepProtocol

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

# What data sets append to the suite that they were recorded in.
_SUFFIX = re.compile(r"_(no_?noops|modified|lerobot|rlds|image|v?\d+(\.\d+)+)$")
# The ten long tasks and the ninety short ones; "libero_10" is nearest in spelling and a tenth of them.
_BOTH = "libero_100"
MOST_DIGITS = 6  # of a task's index; more are a name

logger = logging.getLogger(__name__)


def suite_names() -> tuple[str, ...]:
    """Return the five LIBERO suites and the sixteen LIBERO-PRO suites."""
    return SUITES


@lru_cache(maxsize=64)
def find_suite(name: str) -> str:
    """Return the suite that a name means; another spelling than LIBERO's is taken with one notice.

    Raises:
        ValueError: There is no such suite; names the nearest one.
    """
    suite = name if name in SUITES else _meant_suite(name)
    if suite not in SUITES:
        raise _unknown_suite(name)
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


def states_file(suite: str, task_id: int) -> Path:
    """Return the file that holds LIBERO's initial states of a task."""
    task = _task(suite, task_id)
    return Path(get_libero_path("init_states")) / task.problem_folder / task.init_states_file


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


def _meant_suite(name: str) -> str:
    """Return how LIBERO spells the suite that is meant, which need not exist.

    Capitals, hyphens, blanks and a missing ``libero_`` do not matter, ``long`` is another word for ``10``,
    and what data sets append is cut off.
    """
    text = re.sub(r"[\s_-]+", "_", name.strip().lower()).strip("_")
    while _SUFFIX.search(text):
        text = _SUFFIX.sub("", text)
    text = "libero_" + re.sub(r"^libero_?", "", text)
    return re.sub(r"^libero_long(?=_|$)", "libero_10", text)


def _unknown_suite(name: str) -> ValueError:
    """Return the error of a suite that does not exist, with the nearest one."""
    meant = _meant_suite(name)
    nearest = difflib.get_close_matches(meant, SUITES, n=1, cutoff=0.0)[0]
    hint = f"did you mean {nearest!r}?"
    if meant == _BOTH:
        hint = "LIBERO-100 is libero_90 and libero_10 together;"
    return ValueError(f"unknown suite {name!r}; {hint} Allowed: {', '.join(SUITES)}")
