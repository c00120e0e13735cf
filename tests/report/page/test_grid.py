"""The grid says which situation was tried when, with which outcomes, and since when it is mastered."""

import pytest

from pi0.ript.report.page.grid import MAX_COLUMNS, Grid


def row(step, outcome, *, state=3, group=0, task_id=7):
    return {
        "suite": "libero_goal",
        "task_id": task_id,
        "task": "turn on the stove",
        "state_index": state,
        "step": step,
        "group": group,
        "outcome": outcome,
    }


def grid_of(*rows):
    grid = Grid()
    for entry in rows:
        grid.add(entry)
    return grid.to_json()


def test_cell_holds_the_outcomes_of_a_step_in_order():
    grid = grid_of(row(1, "success"), row(1, "failure"), row(1, "crashed"), row(4, "success"))
    assert grid["width"] == 1
    assert [r["cells"] for r in grid["rows"]] == [{"0": "sfc", "3": "s"}]


def test_rows_are_ordered_by_task_and_state():
    grid = grid_of(
        row(1, "success", state=9), row(1, "success", state=2), row(1, "success", task_id=1)
    )
    assert [(r["task"][:13], r["state"]) for r in grid["rows"]] == [
        ("libero_goal/1", 3),
        ("libero_goal/7", 2),
        ("libero_goal/7", 9),
    ]


def test_long_run_joins_steps_and_loses_no_episode():
    num_steps = 3 * MAX_COLUMNS
    outcomes = ["success", "failure", "success", "crashed"]
    grid = grid_of(*(row(s, outcomes[s % 4]) for s in range(1, num_steps + 1)))
    # 192 steps need 4 steps per column: the smallest power of two that makes at most 64 columns
    assert grid["width"] == 4
    cells = grid["rows"][0]["cells"]
    assert len(cells) == 48
    # Every four steps hold two successes, one failure and one crash.
    assert set(map(tuple, cells.values())) == {(2, 1, 1)}


@pytest.mark.parametrize(
    ("visits", "since"),
    [
        pytest.param({1: "fs", 2: "ss", 4: "ss"}, 2, id="kept"),
        pytest.param({1: "ss", 2: "sf"}, None, id="lost again"),
        pytest.param({1: "ss", 2: "sf", 5: "ss"}, 5, id="won back"),
        pytest.param({1: "sc"}, None, id="a crash proves nothing"),
    ],
)
def test_mastered_since_the_step_from_which_on_every_visit_succeeded(visits, since):
    words = {"s": "success", "f": "failure", "c": "crashed"}
    grid = grid_of(*(row(s, words[letter]) for s, letters in visits.items() for letter in letters))
    assert grid["rows"][0]["mastered"] == since


def test_two_groups_of_a_state_in_one_step_are_two_visits():
    grid = grid_of(row(1, "failure", group=0), row(1, "success", group=5))
    assert grid["rows"][0]["mastered"] == 1
