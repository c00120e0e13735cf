"""The headline is the paired comparison of the first and the newest evaluation."""

import pytest

from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.report.intervals import paired_change, success_rate
from pi0.ript.report.page.headline import ALL_TASKS, results, success_by_task
from pi0.ript.report.page.run_files import Evaluation


def evaluation(step, outcomes, task_id=7):
    words = {"s": "success", "f": "failure", "c": "crashed"}
    return Evaluation(
        step=step,
        policy={},
        episodes=tuple(
            EpisodeRecord(
                suite="libero_goal",
                task_id=task_id,
                task=f"task {task_id}",
                state_index=n,
                seed=n,
                outcome=words[letter],
                num_steps=10,
            )
            for n, letter in enumerate(outcomes)
        ),
    )


def both(first, second):
    return Evaluation(step=first.step, policy={}, episodes=first.episodes + second.episodes)


def test_one_task_has_one_result():
    (result,) = results([evaluation(0, "sfff"), evaluation(5, "sfsf"), evaluation(9, "ssss")])
    assert result.base == success_rate([True, False, False, False])
    assert result.trained == success_rate([True] * 4)
    assert result.change == paired_change([True, False, False, False], [True] * 4)


def test_several_tasks_come_after_all_of_them_together():
    before = both(evaluation(0, "sf", 1), evaluation(0, "ff", 2))
    after = both(evaluation(4, "ss", 1), evaluation(4, "sf", 2))
    rows = results([before, after])
    assert [row.task for row in rows] == [ALL_TASKS, "libero_goal/1 task 1", "libero_goal/2 task 2"]
    assert [(row.base.num_successes, row.trained.num_successes) for row in rows] == [
        (1, 3),
        (1, 2),
        (0, 1),
    ]


def test_crashed_episode_is_left_out_of_both_sides_and_counted():
    (result,) = results([evaluation(0, "scf"), evaluation(5, "ssc")])
    assert (result.base.n, result.trained.n, result.num_crashed) == (1, 1, 2)


def test_run_that_goes_on_has_a_base_only():
    (result,) = results([evaluation(0, "sf")])
    assert (result.base.n, result.trained, result.change) == (2, None, None)


@pytest.mark.parametrize("evaluations", [[], [evaluation(0, "")], [evaluation(0, "cc")]])
def test_nothing_measured_is_no_result(evaluations):
    assert results(evaluations) == []


def test_rates_leave_crashes_out():
    rates = success_by_task(both(evaluation(0, "sc", 1), evaluation(0, "f", 2)).episodes)
    assert [(task, rate.num_successes, rate.n) for task, rate in rates.items()] == [
        ("libero_goal/1 task 1", 1, 1),
        ("libero_goal/2 task 2", 0, 1),
        (ALL_TASKS, 1, 2),
    ]
