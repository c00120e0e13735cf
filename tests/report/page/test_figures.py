"""What a page shows of a run's files: nothing made up, nothing averaged, small for long runs."""

import pytest

from pi0.ript.report.page.charts import SECTIONS
from pi0.ript.report.page.columns import thinned, to_columns
from pi0.ript.report.page.figures import RunFigures
from pi0.ript.report.page.practice import MAX_BINS, PracticeTally
from tests.report.page.runs import Made, make_run


def test_figure_that_a_step_lacks_is_none_there():
    assert to_columns([{"step": 1, "a": 0.5}, {"step": 2, "b": "x"}]) == {
        "step": [1, 2],
        "a": [0.5, None],
        "b": [None, "x"],
    }


@pytest.mark.parametrize(
    ("num_steps", "most", "kept"),
    [(0, 3, []), (3, 3, [1, 2, 3]), (7, 3, [1, 4, 7]), (8, 3, [2, 5, 8])],
)
def test_thinning_leaves_figures_out_and_keeps_the_last(num_steps, most, kept):
    lines = [{"step": step} for step in range(1, num_steps + 1)]
    assert [line["step"] for line in thinned(lines, most)] == kept


def test_minutes_add_up_the_stages_of_practice(tmp_path):
    figures = RunFigures(make_run(tmp_path / "run", Made(num_steps=3)))
    spent = sum(line["time/collect_s"] + line["time/update_s"] for line in figures.lines)
    assert figures.last("minutes") == pytest.approx(spent / 60)


def test_run_that_has_not_begun_has_no_figures(tmp_path):
    figures = RunFigures(make_run(tmp_path / "run", Made(num_steps=1)))
    empty = RunFigures(tmp_path / "nothing")
    assert figures.num_steps == 1
    assert (empty.num_steps, empty.columns(), empty.last("minutes")) == (0, {}, None)


def test_practice_is_counted_by_task_without_crashes():
    tally = PracticeTally()
    for outcome in ("success", "failure", "crashed"):
        tally.add({"suite": "s", "task_id": 1, "task": "t", "step": 2, "outcome": outcome})
    assert tally.to_json() == {"s/1 t": [[2, 1, 2]]}


def test_long_practice_is_joined_and_loses_no_episode():
    tally = PracticeTally()
    num_steps = 2 * MAX_BINS + 2
    for step in range(1, num_steps + 1):
        tally.add({"suite": "s", "task_id": 1, "task": "t", "step": step, "outcome": "success"})
    (bins,) = tally.to_json().values()
    assert len(bins) <= MAX_BINS
    assert sum(n for _, _, n in bins) == num_steps
    assert bins[0] == [4, 4, 4]


def test_every_chart_says_what_it_shows_and_in_which_unit():
    charts = [chart for section in SECTIONS for chart in section.charts]
    assert len({chart.key for chart in charts}) == len(charts)
    assert all(chart.title and chart.unit and chart.note.endswith(".") for chart in charts)
