"""The summary: success before and after, how sure the change is, and seconds by stage."""

import json

from pi0.ript.report.summary import (
    TaskOutcomes,
    summarize,
    summary_text,
    write_summary,
)

STOVE = TaskOutcomes(
    task="stove",
    states=(0, 1, 2, 3),
    base=(True, False, False, False),
    trained=(True, True, True, False),
)
BOWL = TaskOutcomes(task="bowl", states=(0, 1), base=(False, True), trained=(False, False))
SECONDS = {"collect": 75.0, "update": 25.0}


def test_task_is_compared_episode_by_episode():
    stove = summarize([STOVE], SECONDS)["tasks"]["stove"]
    assert (stove["base"]["rate"], stove["trained"]["rate"]) == (0.25, 0.75)
    assert (stove["base"]["n"], stove["change"]["difference"]) == (4, 0.5)
    assert (stove["change"]["num_gained"], stove["change"]["num_lost"]) == (2, 0)


def test_several_tasks_are_also_pooled():
    tasks = summarize([STOVE, BOWL], SECONDS)["tasks"]
    assert list(tasks) == ["stove", "bowl", "all"]
    # Base 1 + 1 of 6, trained 3 + 0 of 6.
    assert (tasks["all"]["base"]["num_successes"], tasks["all"]["trained"]["num_successes"]) == (
        2,
        3,
    )


def test_one_task_is_not_repeated_as_all():
    assert list(summarize([STOVE], SECONDS)["tasks"]) == ["stove"]


def test_text_names_every_task_and_the_share_of_each_stage():
    text = summary_text([STOVE, BOWL], SECONDS)
    for part in ("stove", "bowl", "25.0% (1/4", "75.0% (3/4", "+50.0 points", "time 100 s"):
        assert part in text
    assert "collect         75.0 s  75.0%" in text


def test_run_without_evaluation_still_has_its_seconds():
    assert summary_text([], {"collect": 0.0}) == "time 0 s\n"
    assert summarize([], SECONDS) == {"tasks": {}, "seconds": SECONDS}


def test_summary_is_written_as_json_and_text(tmp_path):
    text = write_summary(tmp_path, [STOVE], SECONDS, {"layout": "openpi"}, "at most 300 steps")
    assert text.startswith("at most 300 steps\nstove\n")
    assert (tmp_path / "summary.txt").read_text() == text
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["seconds"] == SECONDS
    assert summary["policy"] == {"layout": "openpi"}
    assert summary["protocol"] == "at most 300 steps"
