"""Rates per task, suite and altogether; two policies on the same episodes."""

import pytest

from pi0.ript.evaluation.results import compare, find_results, groups, make_report
from tests.evaluation.records import make_record

SETTINGS = {"policy": "a", "weights": "1", "seed": 42}


def _records(outcomes: str, **rest):
    words = {"+": "success", "-": "failure", "x": "crashed"}
    return [
        make_record(state_index=30 + n, outcome=words[mark], **rest)
        for n, mark in enumerate(outcomes)
    ]


def test_groups_are_tasks_then_suites_of_several_tasks_then_all():
    records = [
        make_record(task_id=6),
        make_record(task_id=7),
        make_record(task_id=0, suite="libero_object"),
    ]

    assert {name: len(some) for name, some in groups(records).items()} == {
        "libero_goal/6 task 6": 1,
        "libero_goal/7 task 7": 1,
        "libero_object/0 task 0": 1,
        "libero_goal": 2,
        "all": 3,
    }
    assert list(groups(records[:1])) == ["libero_goal/6 task 6"]


def test_crashed_episodes_are_counted_and_in_no_rate():
    report = make_report(SETTINGS, [*_records("+-x+"), *_records("x", task_id=1)], None)

    row, lost, suite = report.rows
    # 2 of the 3 that lasted to their end.
    assert (row.rate.num_successes, row.rate.n, row.num_crashed) == (2, 3, 1)
    assert (lost.rate, lost.num_crashed) == (None, 1)
    assert (suite.rate.n, suite.num_crashed, report.num_crashed) == (3, 2, 2)


def test_policies_are_compared_on_the_episodes_both_completed():
    comparison = compare(
        SETTINGS, _records("++-+x"), "other", SETTINGS | {"policy": "b"}, _records("-+++")
    )

    (row,) = comparison.rows
    # Pairs (other, this): -+ ++ +- ++; the fifth crashed and has no partner.
    assert (row.change.num_gained, row.change.num_lost, row.this.n) == (1, 1, 4)
    assert row.change.difference == 0
    assert comparison.num_unpaired == 1
    assert comparison.differences == []


def test_several_tasks_have_p_values_adjusted_for_their_number():
    this = [*_records("++++++", task_id=1), *_records("++++++", task_id=2)]
    other = [*_records("------", task_id=1), *_records("-----+", task_id=2)]
    comparison = compare(SETTINGS, this, "other", SETTINGS, other)
    first, second, suite = comparison.rows
    # 2 / 2**6 = 0.03125 times 2; 2 / 2**5 = 0.0625 times 1, and no less than the one before
    assert (first.change.p_value, first.holm_p) == (0.03125, 0.0625)
    assert (second.change.p_value, second.holm_p) == (0.0625, 0.0625)
    assert suite.holm_p is None


def test_episodes_of_one_state_count_for_what_they_are_worth():
    # every state is tried twice, and decides: 2 states of 4 succeed
    records = [*_records("++--"), *_records("++--")]
    (row,) = make_report(SETTINGS, records, None).rows
    (plain,) = make_report(SETTINGS, _records("++--++--"), None).rows
    assert (row.rate.num_successes, row.rate.n) == (4, 8)
    assert row.rate.high - row.rate.low > plain.rate.high - plain.rate.low


def test_settings_that_differ_besides_the_policy_are_said():
    comparison = compare(
        SETTINGS, _records("+"), "other", {"policy": "b", "weights": "2", "seed": 41}, _records("+")
    )

    assert comparison.differences == ["seed is 41, not 42"]


def test_policies_without_a_common_episode_are_not_compared():
    with pytest.raises(ValueError, match=r"no episode in common \(seed is 41, not 42\)"):
        compare(
            SETTINGS, _records("+"), "other", SETTINGS | {"seed": 41}, _records("+", seed=5)
        )  # fmt: skip


def test_results_are_found_by_folder_or_file_and_policies_are_none(tmp_path):
    (tmp_path / "episodes.jsonl").touch()
    (tmp_path / "results.json").touch()

    for name in ("", "episodes.jsonl", "results.json"):
        assert find_results(str(tmp_path / name)) == tmp_path / "episodes.jsonl"
    assert find_results("builtin") is None
