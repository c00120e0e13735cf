"""The guard counts rates that lie too far below the best."""

import pytest

from pi0.ript.config.schema import EvaluationConfig, TrainConfig, TrainingConfig
from pi0.ript.config.sections import RegressionGuardConfig
from pi0.ript.train.regression_guard import RegressionGuard

CONFIG = RegressionGuardConfig(drop=0.25, patience=2)


def verdicts(guard, *rates, first_step=1):
    return [guard.add("held_out", step, rate) for step, rate in enumerate(rates, first_step)]


def test_two_rates_in_a_row_a_quarter_below_the_best_are_a_regression():
    # 0.25 is exactly a quarter below 0.5, and 0.3 is not far enough
    rates = (0.5, 0.25, 0.3, 0.25, 0.0)
    assert verdicts(RegressionGuard(CONFIG), *rates) == ["best", "", "", "", "regressed"]


def test_a_better_rate_becomes_the_one_to_beat():
    guard = RegressionGuard(CONFIG)
    assert verdicts(guard, 0.2, 0.5, 0.2, 0.6) == ["best", "best", "", "best"]
    assert (guard.best, guard.best_step, guard.protected_step) == (0.6, 4, 4)


def test_switched_off_it_says_nothing():
    guard = RegressionGuard(RegressionGuardConfig())
    assert verdicts(guard, 1.0, 0.0, 0.0, 0.0) == ["", "", "", ""]
    assert (guard.counters(), guard.protected_step) == ({}, None)


@pytest.mark.parametrize("killed_after", range(5))
def test_restored_at_any_step_it_goes_on_as_if_nothing_had_been(killed_after):
    rates = (0.5, 0.25, 0.75, 0.5, 0.5)
    undisturbed = verdicts(RegressionGuard(CONFIG), *rates)

    first = RegressionGuard(CONFIG)
    before = verdicts(first, *rates[:killed_after])
    second = RegressionGuard.restored(CONFIG, first.counters() | {"num_episodes": 3})
    # the last rate is read from disk once more and counts no second time
    again = verdicts(second, *rates[max(0, killed_after - 1) :], first_step=max(1, killed_after))

    assert before + again[min(1, killed_after) :] == undisturbed


@pytest.mark.parametrize(
    ("guard", "evaluation", "words"),
    [
        ({"drop": 1.5}, {}, "drop must be in"),
        ({"patience": 0}, {}, "patience must be >= 1"),
        ({"measure": "practice", "action": "roll_back"}, {}, "roll_back needs"),
        ({"drop": 0.2}, {}, "evaluation.every is 0"),
        ({"drop": 0.2}, {"every": 2, "rollouts_per_task": 0}, "rollouts_per_task 0"),
    ],
)
def test_settings_without_sense_are_refused(guard, evaluation, words):
    with pytest.raises(ValueError, match=words):
        TrainConfig(
            training=TrainingConfig(regression_guard=RegressionGuardConfig(**guard)),
            evaluation=EvaluationConfig(**evaluation),
        )
