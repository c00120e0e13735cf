import numpy as np
import pytest

from pi0.ript.algo.selection import FLOOR, InformativeStates, SolvedStates, StateSelection, is_mixed
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

        restored = SolvedStates(num_skips=2)
        restored.restore({"num_episodes": 7, **states.counters()})

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


class TestInformativeStates:
    @staticmethod
    def share_tried(states: StateSelection, key: str, draws: int = 4000) -> float:
        return float(np.mean([not states.skips(key) for _ in range(draws)]))

    # A group of 8 counts 1, then 0.8, then 0.64 of it. E[4 p (1 - p)] of Beta(a, b) is 4 a b / ((a + b) (a + b + 1)); what
    # the floor of 0.1 adds is below 0.04. The standard error of 4000 draws is at most 0.008.
    @pytest.mark.parametrize(
        ("successes", "expected"),
        [
            ([], 2 / 3),  # a = b = 1
            ([4], 10 / 11),  # a = b = 5
            ([8], 4 * 9 / (10 * 11)),  # a = 9, b = 1
            ([8, 8, 8], 4 * 20.52 / (21.52 * 22.52)),  # a = 1 + 8 (1 + 0.8 + 0.64)
        ],
    )
    def test_a_state_is_tried_as_often_as_its_rollouts_will_differ(self, successes, expected):
        states = InformativeStates(seed=0)
        for number in successes:
            states.add("a", [1.0] * number + [0.0] * (8 - number))

        assert expected - 0.03 < self.share_tried(states, "a") < expected + 0.07

    def test_no_state_is_forgotten(self):
        states = InformativeStates(seed=0)
        for _ in range(1000):
            states.add("a", [0.0] * 8)

        assert self.share_tried(states, "a") >= FLOOR - 0.02

    def test_restored_it_draws_what_it_would_have_drawn(self):
        states, restored = InformativeStates(seed=3), InformativeStates(seed=3)
        states.add("a", [1.0, 0.0])
        for _ in range(5):
            states.skips("a")

        restored.restore({"num_episodes": 7, **states.counters()})

        for _ in range(3):
            states.add("a", [1.0, 1.0])
            restored.add("a", [1.0, 1.0])
            assert [states.skips("a") for _ in range(20)] == [
                restored.skips("a") for _ in range(20)
            ]
        assert states.counters() == restored.counters()

    def test_coverage_and_expected_rejection_have_their_closed_forms(self):
        states = InformativeStates(seed=0)
        states.add("a", [1.0, 0.0])

        metrics = states.metrics(["a", "b"], group_size=2)

        # a = b = 2: E[p^2 + (1 - p)^2] = 2 * 2 * 3 / (4 * 5)
        assert metrics == pytest.approx(
            {"rollout/state_coverage": 0.5, "rollout/expected_rejection": 0.6}
        )

    def test_near_saturation_fewer_groups_are_tried_for_one_that_is_accepted(self):
        """Of 30 states 26 succeed in 99 %, 4 in 60 %: 94 % in all, and most groups in turn teach nothing."""
        in_turn = self.tried_per_accepted(SolvedStates(num_skips=0))

        assert self.tried_per_accepted(InformativeStates(seed=0)) < 0.6 * in_turn

    @staticmethod
    def tried_per_accepted(states: StateSelection, rounds: int = 60) -> float:
        generator, tried, accepted = np.random.default_rng(1), 0, 0
        for _ in range(rounds):
            for number in generator.permutation(30):
                if states.skips(str(number)):
                    continue
                rewards = (generator.random(8) < (0.99 if number < 26 else 0.6)).astype(float)
                states.add(str(number), rewards.tolist())
                tried, accepted = tried + 1, accepted + is_mixed(rewards)
        return tried / accepted
