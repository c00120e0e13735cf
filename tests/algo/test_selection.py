import numpy as np
import pytest

from pi0.ript.algo.selection import is_mixed


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
