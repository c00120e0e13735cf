"""The state of a run outside simulators, policy and optimizer."""

import pytest

from pi0.ript.config.schema import TrainingConfig
from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.learner.batch import Totals
from pi0.ript.train.metrics import rollout_metrics, task_metrics, update_metrics
from pi0.ript.train.progression import Progression, Stopwatch
from pi0.ript.train.rollouts import Rollouts


def _rollouts(*, successes: int, episodes: int = 8, steps: int = 400) -> Rollouts:
    return Rollouts(
        groups=(),
        group_size=8,
        totals=Totals(num_episodes=0, num_successes=0, num_with_signal=0, num_samples=0),
        num_accepted=0,
        num_with_advantages=0,
        num_tried=1,
        num_crashed=0,
        ended_by="attempt budget",
        num_all_success=0,
        num_all_failure=1,
        num_episodes=episodes,
        num_successes=successes,
        num_steps=steps,
    )


def test_a_progression_counts_and_remembers_the_last_three_success_rates():
    progression = Progression(training=TrainingConfig())
    for successes in (0, 2, 4, 6):
        progression = progression.after(_rollouts(successes=successes))

    assert (progression.step, progression.num_episodes, progression.num_env_steps) == (4, 32, 1600)
    assert progression.recent_success == (0.25, 0.5, 0.75)


def test_a_progression_survives_a_checkpoint():
    progression = Progression(training=TrainingConfig())
    for successes in (1, 3):
        progression = progression.after(_rollouts(successes=successes))

    assert Progression.restored(TrainingConfig(), 2, progression.counters()) == progression


def test_an_empty_collection_has_no_success_and_does_not_divide_by_zero():
    empty = _rollouts(successes=0, episodes=0, steps=0)

    metrics = rollout_metrics(empty)

    assert metrics["rollout/success_rate"] == 0
    assert metrics["rollout/episode_length_steps"] == 0
    assert metrics["rollout/ended_by"] == "attempt budget"


def _record(suite: str, task_id: int, outcome: str) -> EpisodeRecord:
    return EpisodeRecord(
        suite=suite, task_id=task_id, task="", state_index=0, group=0, rollout=0,
        outcome=outcome, num_steps=60, seed=0, is_accepted=True,
    )  # fmt: skip


def test_every_task_has_its_own_metrics_and_crashed_episodes_are_in_none_of_them():
    records = [
        _record("libero_object", 0, "failure"),
        _record("libero_goal", 7, "success"),
        _record("libero_goal", 7, "failure"),
        _record("libero_goal", 7, "crashed"),
        _record("libero_goal", 6, "crashed"),
    ]

    assert task_metrics(records) == {
        "task/libero_goal/7/success_rate": 0.5,
        "task/libero_goal/7/num_episodes": 2,
        "task/libero_object/0/success_rate": 0.0,
        "task/libero_object/0/num_episodes": 1,
    }


def test_an_update_that_was_skipped_took_no_optimizer_step():
    assert update_metrics(None) == {"update/num_optimizer_steps": 0}


def test_a_stopwatch_adds_up_and_counts_failed_stages_too():
    watch = Stopwatch()
    with watch.measure("a"):
        pass
    before = watch.seconds["a"]

    with pytest.raises(ZeroDivisionError), watch.measure("a"):
        _ = 1 / 0

    assert watch.seconds["a"] > before >= 0
