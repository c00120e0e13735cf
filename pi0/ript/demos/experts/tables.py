"""Which task has which expert."""

from collections.abc import Sequence

from pi0.ript.demos.experts.libero_goal import LIBERO_GOAL
from pi0.ript.demos.experts.libero_object import LIBERO_OBJECT
from pi0.ript.demos.experts.libero_spatial import LIBERO_SPATIAL
from pi0.ript.demos.experts.motion import Expert

_SUITES = {
    "libero_object": LIBERO_OBJECT,
    "libero_spatial": LIBERO_SPATIAL,
    "libero_goal": LIBERO_GOAL,
}

EXPERTS: dict[tuple[str, int], Expert] = {
    (suite, task_id): expert
    for suite, experts in _SUITES.items()
    for task_id, expert in experts.items()
}
"""(suite, task number) -> expert."""

UNRELIABLE = {("libero_goal", 3)}
"""The bowl in the drawer: less than 80 % of tries succeed (docs/results.md), so it is not recorded."""


def with_experts(tasks: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return those of some tasks that have a reliable expert.

    Raises:
        ValueError: None of them has one.
    """
    found = [task for task in tasks if task in EXPERTS and task not in UNRELIABLE]
    if not found:
        names = ", ".join(f"{suite}/{task_id}" for suite, task_id in tasks)
        raise ValueError(
            f"no expert can do {names} reliably; there are experts for {', '.join(_SUITES)}, or play recordings again "
            "with --from_hdf5"
        )
    return found
