"""What a page shows of a run's files: nothing made up, nothing averaged, small for long runs."""

import json
import re

import pytest

from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.report.page.charts import SECTIONS
from pi0.ript.report.page.figures import (
    MAX_BINS,
    MAX_COLUMNS,
    Grid,
    RolloutTally,
    RunMetrics,
    thinned,
    to_columns,
)
from tests.report.page.runs import Made, make_run


def rollout(step, outcome, *, state=3, group=0, task_id=7):
    record = EpisodeRecord(
        suite="libero_goal",
        task_id=task_id,
        task="turn on the stove",
        state_index=state,
        seed=1,
        outcome=outcome,
        num_steps=60,
        group=group,
    )
    return step, record


def grid_of(*rollouts):
    grid = Grid()
    for step, record in rollouts:
        grid.add(step, record)
    return grid.to_json()


def tally_of(*rollouts):
    tally = RolloutTally()
    for step, record in rollouts:
        tally.add(step, record)
    return tally.to_json()


def test_cell_holds_the_outcomes_of_a_step_in_order():
    grid = grid_of(
        rollout(1, "success"), rollout(1, "failure"), rollout(1, "crashed"), rollout(4, "success")
    )
    assert grid["width"] == 1
    assert [r["cells"] for r in grid["rows"]] == [{"0": "sfc", "3": "s"}]


def test_rows_are_ordered_by_task_and_state():
    grid = grid_of(
        rollout(1, "success", state=9),
        rollout(1, "success", state=2),
        rollout(1, "success", task_id=1),
    )
    assert [(r["task"][:13], r["state"]) for r in grid["rows"]] == [
        ("libero_goal/1", 3),
        ("libero_goal/7", 2),
        ("libero_goal/7", 9),
    ]


def test_long_run_joins_steps_and_loses_no_episode():
    num_steps = 3 * MAX_COLUMNS
    outcomes = ["success", "failure", "success", "crashed"]
    grid = grid_of(*(rollout(s, outcomes[s % 4]) for s in range(1, num_steps + 1)))
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
def test_solved_since_the_step_from_which_on_every_visit_succeeded(visits, since):
    words = {"s": "success", "f": "failure", "c": "crashed"}
    grid = grid_of(
        *(rollout(s, words[letter]) for s, letters in visits.items() for letter in letters)
    )
    assert grid["rows"][0]["solved"] == since


def test_two_groups_of_a_state_in_one_step_are_two_visits():
    grid = grid_of(rollout(1, "failure", group=0), rollout(1, "success", group=5))
    assert grid["rows"][0]["solved"] == 1


def test_metric_that_a_step_lacks_is_none_there():
    assert to_columns([{"step": 1, "a": 0.5}, {"step": 2, "b": "x"}]) == {
        "step": [1, 2],
        "a": [0.5, None],
        "b": [None, "x"],
    }


@pytest.mark.parametrize(
    ("num_steps", "most", "kept"),
    [(0, 3, []), (3, 3, [1, 2, 3]), (7, 3, [1, 4, 7]), (8, 3, [2, 5, 8])],
)
def test_thinning_leaves_lines_out_and_keeps_the_last(num_steps, most, kept):
    lines = [{"step": step} for step in range(1, num_steps + 1)]
    assert [line["step"] for line in thinned(lines, most)] == kept


def test_minutes_add_up_the_stages_of_training(tmp_path):
    metrics = RunMetrics(make_run(tmp_path / "run", Made(num_steps=3)))
    spent = sum(line["time/collect_s"] + line["time/update_s"] for line in metrics.lines)
    assert metrics.last("minutes") == pytest.approx(spent / 60)


def test_run_that_has_not_begun_has_no_metrics(tmp_path):
    metrics = RunMetrics(make_run(tmp_path / "run", Made(num_steps=1)))
    empty = RunMetrics(tmp_path / "nothing")
    assert metrics.num_steps == 1
    assert (empty.num_steps, empty.columns(), empty.last("minutes")) == (0, {}, None)


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [
        ("metrics.jsonl", '{"update/kl": 0.1}', "it lacks 'step'"),
        ("metrics.jsonl", '{"step": 1.5}', "step 1.5"),
        ("episodes.jsonl", '{"step": 2, "suite": "libero_goal"}', ".*missing .*'task_id'.*"),
        (
            "episodes.jsonl",
            json.dumps({"step": 2, **rollout(2, "solved")[1].to_line()}),
            "outcome 'solved'",
        ),
        ("episodes.jsonl", "[1, 2]", "list indices .*"),
        ("episodes.jsonl", "\0\0\0\0", ".*column.*"),
        ("metrics.jsonl", '{"step": 2, "time/collect_s": "long"}', "time/collect_s 'long'"),
        ("metrics.jsonl", '{"step": 2, "update/kl": [1]}', r"update/kl \[1\]"),
        (
            "episodes.jsonl",
            json.dumps({"step": 2, **rollout(2, "success")[1].to_line(), "task_id": "7"}),
            "task_id '7'",
        ),
    ],
)
def test_line_that_no_run_writes_is_left_out_and_named(tmp_path, name, line, reason):
    run = make_run(tmp_path / "run", Made(num_steps=1))
    num_lines = len((run / name).read_text().splitlines())
    watched = RunMetrics(run)
    whole = watched.num_steps, watched.num_rollouts
    with (run / name).open("a") as file:
        file.write("\n" + line + "\n")  # an editor's blank line holds nothing

    # A page that is being watched counts lines on from those it has read.
    watched.refresh()
    for metrics in (RunMetrics(run), watched):
        assert (metrics.num_steps, metrics.num_rollouts) == whole
        [damage] = metrics.damage
        assert re.search(rf"{name} line {num_lines + 2} .*\({reason}\)$", damage)


def test_rollouts_are_counted_by_task_without_crashes():
    rollouts = [rollout(2, outcome) for outcome in ("success", "failure", "crashed")]
    assert tally_of(*rollouts) == {"libero_goal/7 turn on the stove": [[2, 1, 2]]}


def test_tally_of_a_long_run_is_joined_and_loses_no_episode():
    num_steps = 2 * MAX_BINS + 2
    (bins,) = tally_of(*(rollout(step, "success") for step in range(1, num_steps + 1))).values()
    assert len(bins) <= MAX_BINS
    assert sum(n for _, _, n in bins) == num_steps
    assert bins[0] == [4, 4, 4]


def test_every_chart_has_a_title_a_unit_and_a_note():
    charts = [chart for section in SECTIONS for chart in section.charts]
    assert len({chart.key for chart in charts}) == len(charts)
    assert all(chart.title and chart.unit and chart.note.endswith(".") for chart in charts)
