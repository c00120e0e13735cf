"""The study of few demonstrations: which ones each policy sees, and the rows of its table."""

import json
from pathlib import Path

import pytest

from benchmarks.one_demonstration import QUICK, Study, means, merged, result, table

RATE = {"n": 100, "rate": 0.5, "low": 0.366, "high": 0.634}
CHANGE = {"difference": 0.1, "low": -0.02, "high": 0.2, "p_value": 0.227}


def _result(count: int, seed: int, trained: float = 0.6) -> dict:
    return {
        "count": count,
        "seed": seed,
        "base": RATE,
        "trained": RATE | {"rate": trained},
        "change": CHANGE,
        "steps": 12,
        "env_steps": 57_600,
        "minutes": 7.04,
    }


def test_every_seed_has_other_demonstrations_as_far_as_there_are_others():
    study = Study()

    assert [study.demonstrations(1, seed) for seed in study.seeds] == ["0:1", "1:2", "2:3"]
    assert [study.demonstrations(5, seed) for seed in study.seeds] == ["0:5", "5:10", "10:15"]
    assert [study.demonstrations(50, seed) for seed in study.seeds] == ["0:50"] * 3
    assert [QUICK.demonstrations(count, 0) for count in QUICK.counts] == ["0:1", "0:2"]


def test_a_run_gives_success_before_and_after_and_what_practice_took(tmp_path: Path):
    row = {"base": RATE, "trained": RATE, "change": CHANGE, "suite": "libero_goal"}
    (tmp_path / "summary.json").write_text(json.dumps({"tasks": {"turn on the stove": row}}))
    lines = [
        {"step": n, "train/num_env_steps": 100.0 * n, "time/collect_s": 50.0, "time/update_s": 10.0}
        for n in (1, 2, 3)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    found = result(tmp_path, 1, 0)

    assert (found["steps"], found["env_steps"], found["change"]) == (3, 300, CHANGE)
    assert found["minutes"] == pytest.approx(3.0)  # (50 + 10) s in each of three steps


def test_the_table_has_a_row_per_policy():
    _, header, _, *rows, _ = table([_result(1, 0), _result(50, 2)])

    expected = (
        "| 1 | 0 | 50 % [37, 63] | 60 % [37, 63] | +10 [-2, +20] | 0.23 | 100 | 12 | 57,600 | 7.0 |"
    )
    assert rows[0] == expected
    assert rows[1].startswith("| 50 | 2 |")
    assert header.count("|") == rows[0].count("|")


def test_means_are_over_the_seeds_of_a_number_of_demonstrations():
    assert means([_result(1, 0, 0.6), _result(1, 1, 0.9), _result(5, 0)]) == [
        "- 1 demonstration, mean of 2 seeds: 50 % to 75 %.",
        "- 5 demonstrations, one seed: 50 % to 60 %.",
    ]


def test_a_new_result_replaces_the_old_one_of_its_cell():
    found = merged([_result(5, 0), _result(1, 1)], [_result(5, 0, 0.9)])

    assert [(each["count"], each["seed"]) for each in found] == [(1, 1), (5, 0)]
    assert found[1]["trained"]["rate"] == 0.9
