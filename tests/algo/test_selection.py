import numpy as np
import pytest

from pi0.ript.algo.selection import SolvedStates, is_mixed
from pi0.ript.types import InitialState


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([1, 1, 1, 1], False),
        ([0, 0, 0, 0], False),
        ([1, 0, 0, 0], True),
        ([1, 1, 1, 0], True),
        ([], False),
    ],
)
def test_only_a_group_that_ended_differently_is_mixed(rewards: list[float], *, expected: bool):
    assert is_mixed(np.array(rewards, dtype=np.float64)) is expected


@pytest.mark.parametrize(
    ("success_rate", "rollouts", "expected"),
    [(0.05, 4, 0.185), (0.05, 8, 0.337), (0.5, 8, 0.992), (0.9, 8, 0.570), (0.98, 16, 0.276)],
)
def test_share_of_mixed_groups_follows_the_success_rate(
    success_rate: float, rollouts: int, expected: float
):
    # P(mixed) = 1 - p^K - (1 - p)^K. With 20 000 groups the standard error is at most 0.0035.
    draws = np.random.default_rng(0).random((20_000, rollouts)) < success_rate

    share = np.mean([is_mixed(group.astype(np.float64)) for group in draws])

    assert share == pytest.approx(expected, abs=4 * 0.0035)


class TestSolvedStates:
    def test_a_state_that_was_solved_by_all_is_left_out_then_tried_again(self):
        states = SolvedStates(num_skips=3)
        states.add("a", [1.0, 1.0])

        assert [states.skips("a") for _ in range(5)] == [True, True, True, False, False]

    def test_other_states_and_states_with_a_failure_are_not_left_out(self):
        states = SolvedStates(num_skips=3)
        states.add("a", [1.0, 1.0])
        states.add("b", [1.0, 0.0])

        assert not states.skips("b")
        assert not states.skips("c")

    def test_zero_skips_leave_nothing_out(self):
        states = SolvedStates(num_skips=0)
        states.add("a", [1.0, 1.0])

        assert not states.skips("a")

    def test_it_survives_a_checkpoint_among_other_counters(self):
        states = SolvedStates(num_skips=2)
        states.add("a", [1.0])

        restored = SolvedStates.restored(2, {"num_episodes": 7, **states.counters()})

        assert [restored.skips("a") for _ in range(3)] == [True, True, False]

    def test_the_key_of_a_state_depends_on_the_situation_only(self):
        # A stable hash: the same in every process, run and machine.
        def state(value: float, index: int) -> InitialState:
            return InitialState(
                suite="libero_goal",
                task_id=7,
                index=index,
                fixture_seed=0,
                state=np.array([value, 1.0]),
            )

        assert state(0.5, 3).key == state(0.5, 4).key == "b6beaacbe2ab8eb2"
        assert state(0.6, 3).key != state(0.5, 3).key
