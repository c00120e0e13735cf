"""The table of the experts: what stands in it, and what is not measured again."""

import json
from dataclasses import asdict

from benchmarks.experts import Try, read_tries, table
from pi0.ript.env.suites import task_count

SUITE = "libero_goal"


def _tries(task_id: int, num_failures: int) -> list[Try]:
    return [
        Try(
            suite=SUITE,
            task_id=task_id,
            attempt=n,
            is_success=n >= num_failures,
            num_steps=num_steps,
        )
        for n, num_steps in enumerate((300, 90, 70, 60, 50))
    ]


def test_the_table_has_every_task_of_a_suite_and_says_which_expert_succeeds_too_seldom():
    rows = table({(SUITE, 7): _tries(7, num_failures=1), (SUITE, 6): _tries(6, num_failures=2)})
    rows = rows[3:-1]

    assert len(rows) == task_count(SUITE)
    # of the successes: 50 60 70 90, so 65 in the median
    assert rows[7] == "| `libero_goal/7` | turn on the stove | 4 of 5 | 65, 90 |"
    assert "| 3 of 5, too few | 60, 70 |" in rows[6]
    assert "| not tried |  |" in rows[0]
    assert "| no expert |  |" in table({("libero_10", 0): []})[4]


def test_a_line_that_was_not_finished_is_tried_again(tmp_path):
    path = tmp_path / "experts.jsonl"
    done = _tries(7, 0)[0]
    path.write_text(json.dumps(asdict(done)) + "\n" + '{"suite": "libero_go')

    assert read_tries(path) == {(SUITE, 7): [done]}
    assert read_tries(tmp_path / "nothing.jsonl") == {}
