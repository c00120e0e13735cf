"""Normalization: four modes, two formulas, and back again."""

from typing import get_args

import numpy as np
import pytest

from pi0.card import NormFormula, NormMode
from pi0.norm_stats import normalize, unnormalize

STATISTICS = {
    "mean": np.array([0.5, -1.0, 2.0]),
    "std": np.array([2.0, 0.5, 1e-3]),
    "q01": np.array([-3.0, -2.0, 1.9]),
    "q99": np.array([5.0, 0.0, 2.1]),
    "q10": np.array([-1.0, -1.5, 1.95]),
    "q90": np.array([2.0, -0.5, 2.05]),
    "min": np.array([-9.0, -4.0, 1.0]),
    "max": np.array([9.0, 4.0, 3.0]),
}
VALUES = np.array([[0.5, 0.0, 2.0], [4.5, -1.0, 2.002]])


def test_z_scores_of_openpi_add_a_millionth_to_std():
    # (4.5 - 0.5) / (2 + 1e-6); (2.002 - 2) / (1e-3 + 1e-6) = 2 / 1.001
    scores = normalize(VALUES, STATISTICS, "z_score", "openpi")
    assert scores[1] == pytest.approx([4 / 2.000001, 0.0, 2 / 1.001], rel=1e-9)


def test_z_scores_of_lerobot_add_a_hundred_millionth():
    scores = normalize(VALUES, STATISTICS, "z_score", "lerobot")
    assert scores[1, 2] == pytest.approx(0.002 / (1e-3 + 1e-8), rel=1e-9)


def test_lerobot_undoes_z_scores_without_its_epsilon():
    assert unnormalize(np.ones(3), STATISTICS, "z_score", "lerobot").tolist() == [2.5, -0.5, 2.001]
    assert unnormalize(np.ones(3), STATISTICS, "z_score", "openpi")[2] == pytest.approx(2.001001)


@pytest.mark.parametrize(
    ("mode", "low", "high"),
    [("quantile", "q01", "q99"), ("quantile10", "q10", "q90"), ("min_max", "min", "max")],
)
def test_other_modes_send_their_two_statistics_to_minus_one_and_one(mode, low, high):
    ends = np.stack([STATISTICS[low], STATISTICS[high]])
    scaled = normalize(ends, STATISTICS, mode, "lerobot")
    np.testing.assert_allclose(scaled, [[-1] * 3, [1] * 3], atol=1e-12)
    # openpi widens the range by 1e-6: for the narrow third number by 5e-6 of its 0.2
    np.testing.assert_allclose(normalize(ends, STATISTICS, mode, "openpi"), scaled, atol=3e-5)


@pytest.mark.parametrize("mode", get_args(NormMode))
@pytest.mark.parametrize("formula", get_args(NormFormula))
def test_unnormalizing_undoes_normalizing(mode, formula):
    there = normalize(VALUES, STATISTICS, mode, formula)
    # LeRobot's epsilon is not undone: 1e-8 of a std of 1e-3 is 1e-5 of the distance to the mean
    np.testing.assert_allclose(unnormalize(there, STATISTICS, mode, formula), VALUES, atol=3e-8)
