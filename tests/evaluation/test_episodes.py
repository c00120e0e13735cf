"""Held-out episodes on disk are read as they were written, or not at all."""

import json
import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

import pytest

from pi0.ript.env.initial_states import split
from pi0.ript.env.suites import task_language
from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.evaluation.episodes import (
    complete_by_task,
    drop_evaluations_after,
    evaluate,
    evaluation_requests,
    read_evaluation,
    request_key,
    set_aside,
    write_evaluation,
)
from pi0.ript.train.run import paired_outcomes
from pi0.ript.types import Episode, EpisodeRequest, Outcome
from tests.evaluation.records import make_record
from tests.evaluation.toy_evaluation import toy_records, toy_requests
from tests.policy_parts import raises_one_line

TASKS = (("libero_goal", 7), ("libero_object", 0))


def _requests(**overrides: int) -> list[EpisodeRequest]:
    settings = {
        "episodes_per_task": 25, "held_out": 20, "fixture_seed": 0, "seed": 42,
        "max_episode_length": None, "protocol": "openpi", **overrides,
    }  # fmt: skip
    return evaluation_requests(TASKS, **settings)


def _evaluate(
    requests: Sequence[EpisodeRequest], verdict: Callable[[EpisodeRequest], Outcome]
) -> list[EpisodeRecord]:
    def run(source: Callable[[], EpisodeRequest | None]) -> Generator[Episode, None, None]:
        pending = list(iter(source, None))
        for request in reversed(pending):  # the last request finishes first
            state = request.initial_state
            yield Episode(
                request=request,
                task=task_language(state.suite, state.task_id),
                policy_steps=(),
                outcome=verdict(request),
                num_steps=1,
            )

    return evaluate(run, requests, lambda _: None)


def test_only_held_out_states_are_used_and_each_about_as_often():
    indices = [r.initial_state.index for r in _requests() if r.initial_state.task_id == 7]

    train, held_out = split(20)
    assert set(indices) == set(held_out)
    assert not set(indices) & set(train)
    # 25 episodes over 20 states: 5 of them twice.
    assert sorted(indices.count(i) for i in held_out) == [1] * 15 + [2] * 5


def test_episodes_have_seeds_of_their_own_that_depend_on_the_run_seed_only():
    seeds = [request.seed for request in _requests()]

    assert len(set(seeds)) == len(seeds)
    assert seeds == [request.seed for request in _requests()]
    assert not set(seeds) & {request.seed for request in _requests(seed=43)}
    # More episodes extend the list; they do not change it.
    assert seeds[:25] == [r.seed for r in _requests(episodes_per_task=30)][:25]


def test_the_suite_limits_the_steps_unless_a_limit_is_given():
    assert {r.max_steps for r in _requests()} == {300, 280}
    assert {r.max_steps for r in _requests(max_episode_length=90)} == {90}


def test_records_come_in_request_order_whichever_finishes_first():
    requests = _requests(episodes_per_task=3)

    records = _evaluate(requests, lambda request: "success" if request.rollout else "failure")

    assert [record.seed for record in records] == [request.seed for request in requests]
    assert [record.is_success for record in records] == [False, True, True] * 2


def test_a_crashed_episode_counts_as_neither_success_nor_failure():
    records = _evaluate(
        _requests(episodes_per_task=3),
        lambda request: ("crashed", "failure", "success")[request.rollout],
    )

    outcomes = [[r.is_success for r in some] for some in complete_by_task(records).values()]
    assert outcomes == [[False, True], [False, True]]


def test_a_task_of_which_nothing_could_be_completed_has_no_rate():
    records = _evaluate(_requests(episodes_per_task=2), lambda _: "crashed")

    with pytest.raises(RuntimeError, match="no episode of libero_goal/7 turn on the stove"):
        complete_by_task(records)


def test_pairs_leave_out_what_crashed_on_either_side():
    requests = _requests(episodes_per_task=3)
    base = _evaluate(requests, lambda r: ("crashed", "failure", "failure")[r.rollout])
    trained = _evaluate(requests, lambda r: ("success", "success", "crashed")[r.rollout])

    outcomes = paired_outcomes(base, trained)

    assert [(task.base, task.trained) for task in outcomes] == [((False,), (True,))] * 2


def test_different_episodes_are_never_paired():
    base = _evaluate(_requests(episodes_per_task=2), lambda _: "failure")
    other = [replace(record, seed=record.seed + 1) for record in base]

    with pytest.raises(ValueError, match="different episodes"):
        paired_outcomes(base, other)


@pytest.mark.parametrize("num_slots", [1, 3, 8])
def test_slots_order_and_crashed_attempts_leave_every_record_as_it_is(num_slots: int):
    requests = toy_requests()
    reference = toy_records(requests, num_slots=2)
    shuffled = random.Random(num_slots).sample(requests, len(requests))

    # The second and the ninth command die with their worker; both episodes run again.
    records = toy_records(shuffled, num_slots, crashes={1: "worker died", 8: "worker died"})

    assert sorted(records, key=lambda r: r.key) == sorted(reference, key=lambda r: r.key)
    assert {record.outcome for record in records} == {"success", "failure"}
    assert [record.key for record in records] == [request_key(r) for r in shuffled]


def test_the_order_of_tasks_changes_no_episode():
    def by_key(tasks: Sequence[tuple[str, int]]) -> dict[object, object]:
        requests = evaluation_requests(
            tasks, episodes_per_task=5, held_out=20, fixture_seed=0, seed=42,
            max_episode_length=None, protocol="openpi",
        )  # fmt: skip
        return {request_key(r): (r.initial_state.key, r.max_steps) for r in requests}

    assert by_key(TASKS) == by_key(TASKS[::-1])


def test_all_fifty_states_are_used_in_order_where_all_are_held_out():
    indices = [r.initial_state.index for r in _requests(episodes_per_task=50, held_out=50)]

    assert indices == [*range(50), *range(50)]


def test_lerobot_gives_libero_spatial_more_steps_than_openpi():
    limits = [
        evaluation_requests(
            [("libero_spatial", 0)], episodes_per_task=1, held_out=1, fixture_seed=0, seed=0,
            max_episode_length=None, protocol=protocol,
        )[0].max_steps
        for protocol in ("openpi", "lerobot")
    ]  # fmt: skip

    assert limits == [220, 280]


def test_seconds_are_kept_and_compared_by_nobody():
    (record,) = toy_records(toy_requests()[:1], num_slots=1)

    assert record.seconds > 0
    assert record == replace(record, seconds=0.0)
    assert "seconds" in record.to_dict()
    assert "seconds" not in record.repeatable()


RECORDS = [make_record(state_index=30), make_record(state_index=31, outcome="failure")]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "evaluations" / "step_0.json"
    write_evaluation(path, {"protocol": "openpi"}, RECORDS)
    return path


def test_what_is_read_is_what_was_written(path):
    assert read_evaluation(path) == RECORDS


def test_evaluations_of_steps_that_are_taken_again_go(path):
    for step in (5, 10, 50):
        write_evaluation(path.with_name(f"step_{step}.json"), {}, RECORDS)
    set_aside(path.with_name("step_50.json"))

    drop_evaluations_after(path.parents[1], 5)

    left = sorted(one.name for one in path.parent.iterdir())
    assert left == ["regressed_step_50.json", "step_0.json", "step_5.json"]


@pytest.mark.parametrize(
    "harm",
    [
        lambda text: text.replace("failure", "success"),
        lambda text: text.replace("openpi", "lerobot"),
        lambda text: text[:-20],
        lambda text: "[]",
        lambda text: "[" * 10**5,
        lambda text: json.dumps(json.loads(text) | {"episodes": [{"suite": "libero_goal"}]}),
    ],
)
def test_anything_else_is_refused_in_one_line(path, harm):
    path.write_text(harm(path.read_text()))

    with pytest.raises(ValueError, match=r"step_0\.json") as caught:
        read_evaluation(path)

    assert raises_one_line(caught.value, "put back the file")
