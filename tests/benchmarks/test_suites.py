"""Runs of whole suites: what is kept of them, and the tables made of it."""

import json
from dataclasses import replace

from benchmarks.parts.document import marks
from benchmarks.training import suites_report
from benchmarks.training.suites_report import overview, publish, task_table, together, variant_table
from benchmarks.training.suites_runs import (
    Evaluated,
    Outcomes,
    SuiteResult,
    SuiteRun,
    dump,
    load,
    merged,
)
from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.evaluation.episodes import evaluation_path, write_evaluation

SOUP, CHEESE = "libero_object/0 soup", "libero_object/1 cheese"


def _outcomes(text):
    """Outcomes in initial states 30, 31, ... of a text such as "+-"."""
    return Outcomes(states=list(range(30, 30 + len(text))), successes=[c == "+" for c in text])


def _result(seed=0, arm="practice", suite="libero_object"):
    base, trained = (
        {SOUP: _outcomes("+---"), CHEESE: _outcomes("----")},
        {SOUP: _outcomes("++--"), CHEESE: _outcomes("++++")},
    )
    curve = [
        Evaluated(step=0, env_steps=0, minutes=0.0, tasks=base),
        Evaluated(step=4, env_steps=5000, minutes=1.5, tasks=trained),
    ]
    return SuiteResult(
        suite=suite, seed=seed, arm=arm, curve=curve, base=base, trained=trained,
        variant_base={"libero_object_lan/0 the soup": _outcomes("----")},
        variant_trained={"libero_object_lan/0 the soup": _outcomes("+---")},
    )  # fmt: skip


def _record(task_id, state, outcome):
    return EpisodeRecord(
        suite="libero_object", task_id=task_id, task="soup" if task_id == 0 else "cheese", state_index=state,
        seed=state, outcome=outcome, num_steps=90,
    )  # fmt: skip


def _write_log(folder, records):
    folder.mkdir(parents=True)
    lines = [{"settings": {}}, *(record.to_dict() for record in records)]
    (folder / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_what_was_measured_comes_back_from_its_file(tmp_path):
    file = tmp_path / "suites.json"
    file.write_text(dump([_result(), _result(seed=1)]))

    assert load(file) == [_result(), _result(seed=1)]
    assert load(tmp_path / "none.json") == []


def test_a_run_that_was_measured_again_replaces_what_was_known_of_it():
    old, other, new = _result(), _result(arm="permuted"), _result()

    together = merged([old, other], [new])

    assert [result.arm for result in together] == ["permuted", "practice"]
    assert together[1] is new


def test_a_run_with_other_options_has_a_folder_and_a_name_of_its_own(tmp_path):
    run = SuiteRun(suite="x", seed=3, arm="practice", options=(), output=tmp_path)
    assert run.folder == tmp_path / "x" / "practice" / "seed_3"
    assert replace(run, label="bc").folder == tmp_path / "x" / "bc" / "seed_3"


def test_a_run_is_read_from_its_folder_once_practice_was_evaluated(tmp_path):
    run = SuiteRun(suite="libero_object", seed=3, arm="practice", options=(), output=tmp_path)
    assert run.result() is None
    run_dir = run.folder / "run_1"
    (run_dir / "evaluations").mkdir(parents=True)
    lines = [
        {
            "step": step,
            "train/num_env_steps": 1000 * step,
            "time/collect_s": 50,
            "time/update_s": 10,
        }
        for step in (1, 2)
    ]
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run.result() is None

    for step in (0, 2):
        write_evaluation(evaluation_path(run_dir, step), {}, [_record(0, 30, "success")])
    records = [_record(1, 30, "success"), _record(0, 31, "failure"), _record(0, 30, "success")]
    _write_log(run.folder / "trained", [*records, _record(0, 32, "crashed")])
    result = run.result()

    assert result is not None
    # in the order of tasks and states, without the crashed episode
    assert result.trained == {SOUP: _outcomes("+-"), CHEESE: _outcomes("+")}
    assert result.base == {}
    # two steps of a minute each
    assert [(one.step, one.env_steps, one.minutes) for one in result.curve] == [
        (0, 0, 0.0),
        (2, 2000, 2.0),
    ]


def test_a_line_per_run_says_how_it_went():
    _, header, _, row, _ = overview([_result()])

    assert header.count("|") == row.count("|")
    cells = row.strip("| ").split(" | ")
    assert cells[:3] == ["`libero_object`", "practice", "0"]
    # 1 of 8 before, 6 of 8 after
    assert cells[3].startswith("12 % [")
    assert cells[4].startswith("75 % [")
    assert cells[5].startswith("+62 [")
    assert cells[6:] == ["8", "5,000", "2"]


def test_a_line_per_task_and_one_of_all():
    result = _result()

    _, _, _, soup, cheese, everything, _ = task_table(result.base, result.trained)

    assert soup.startswith("| `libero_object/0` soup | 25 % [")
    # gained 4 of 4, p = 2 / 2^4, times two tasks
    assert cheese.endswith("| 4 / 0 | 0.25 | 4 |")
    assert everything.endswith("| 5 / 0 |  | 8 |")


def test_runs_that_differ_in_their_seed_are_pooled_as_well():
    shorter = _result(seed=2)
    shorter = replace(shorter, curve=shorter.curve[:1])
    runs = [_result(seed=0), _result(seed=1), _result(arm="permuted")]

    _, title, _, _, _, soup, _, everything, _ = together(runs)

    assert title == "**libero_object, practice, seeds 0, 1 together, after 4 steps**"
    assert soup.endswith("| 2 / 0 | 0.5 | 8 |")  # one of four gained in either run, p = 2 / 2^2
    assert everything.endswith("| 10 / 0 |  | 16 |")
    assert together(runs[1:]) == []
    assert together([_result(seed=0), shorter]) == []  # evaluated after other steps


def test_a_line_per_variant_whatever_its_tasks():
    _, _, _, row, _ = variant_table(_result())

    assert row.startswith("| `libero_object_lan` | 0 % [")
    assert row.endswith("| 1 / 0 | 4 |")


def test_publishing_writes_every_run_between_the_marks(tmp_path, monkeypatch):
    document = tmp_path / "results.md"
    document.write_text("before\n" + "\n\n".join(marks("suites")) + "\nafter\n")
    monkeypatch.setattr(suites_report, "DOCUMENT", document)
    monkeypatch.setattr(suites_report, "IMAGES", tmp_path)

    publish([_result(), _result(suite="libero_goal", seed=2)], "python benchmarks/suites.py")

    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "<summary>libero_goal, practice, seed 2, task by task</summary>" in text
    assert (tmp_path / "suites.png").stat().st_size > 1000
