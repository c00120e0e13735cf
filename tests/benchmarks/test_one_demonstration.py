"""The study of few demonstrations: which ones each policy sees, and the rows of its table."""

from benchmarks.one_demonstration import QUICK, Study, table


def _result(count: int, seed: int) -> dict:
    rates = {"n": 100, "rate": 0.5, "low": 0.366, "high": 0.634}
    change = {"difference": 0.1, "low": -0.02, "high": 0.2, "p_value": 0.227}
    row = {"base": rates, "trained": rates | {"rate": 0.6}, "change": change}
    return {"count": count, "seed": seed, "summary": {"tasks": {"turn on the stove": row}}}


def test_every_seed_has_other_demonstrations_as_far_as_there_are_others():
    study = Study()

    assert [study.demonstrations(1, seed) for seed in study.seeds] == ["0:1", "1:2", "2:3"]
    assert [study.demonstrations(5, seed) for seed in study.seeds] == ["0:5", "5:10", "10:15"]
    assert [study.demonstrations(50, seed) for seed in study.seeds] == ["0:50"] * 3
    assert [QUICK.demonstrations(count, 0) for count in QUICK.counts] == ["0:1", "0:2"]


def test_the_table_has_a_row_per_policy():
    _, header, _, *rows, _ = table([_result(1, 0), _result(50, 2)])

    assert rows[0] == "| 1 | 0 | 50 % [37, 63] | 60 % [37, 63] | +10 [-2, +20] | 0.23 | 100 |"
    assert rows[1].startswith("| 50 | 2 |")
    assert header.count("|") == rows[0].count("|")
