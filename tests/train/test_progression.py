"""How long a run still takes follows from what its parts have taken."""

import pytest

from pi0.ript.train.progression import seconds_left

SECONDS = {"collect": 80.0, "update": 15.0, "checkpoint": 5.0, "evaluate": 30.0}


@pytest.mark.parametrize(
    ("step", "every", "expected"),
    [
        # 10 s per step for 20 more steps; one evaluation of 30 s is done, one is left.
        (10, 0, 20 * 10 + 30),
        # Evaluated after 0 and 5, 15 s each; those of 10, 15, 20, 25 and 30 are left.
        (10, 5, 20 * 10 + 5 * 15),
        (30, 0, 30),
    ],
)
def test_steps_and_evaluations_that_are_left_take_as_long_as_those_before(step, every, expected):
    seconds = {stage: s * step / 10 for stage, s in SECONDS.items() if stage != "evaluate"}

    left = seconds_left(
        seconds | {"evaluate": 30.0}, step=step, num_steps=30, evaluates_every=every
    )

    assert left == pytest.approx(expected)


def test_nothing_is_known_before_the_first_step():
    assert seconds_left({}, step=0, num_steps=30, evaluates_every=0) is None


def test_a_run_without_evaluation_is_steps_only():
    assert seconds_left({"collect": 4.0}, step=2, num_steps=5, evaluates_every=0) == 6.0
