"""Which tasks have experts, and what is said where there is none."""

import pytest

from pi0.ript.demos.experts.tables import EXPERTS, UNRELIABLE, with_experts
from pi0.ript.env.suites import all_tasks


def test_tables_name_tasks_that_exist():
    suites = ("libero_object", "libero_spatial", "libero_goal")

    assert set(EXPERTS) <= {task for suite in suites for task in all_tasks(suite)}
    assert set(EXPERTS) >= UNRELIABLE


def test_tasks_without_an_expert_are_left_out_and_none_at_all_is_an_error():
    known, unknown = ("libero_goal", 7), ("libero_10", 3)

    assert with_experts([unknown, known, *UNRELIABLE]) == [known]
    with pytest.raises(
        ValueError,
        match=r"no expert can do libero_10/3 reliably; there are experts for .*libero_goal",
    ):
        with_experts([unknown])
