import pytest

from pi0.ript.algo.windows import window_indices
from pi0.ript.config.algo import CfgConfig


def windows(length: int, seed: int = 0, **settings) -> list[int]:
    return window_indices(length, CfgConfig(**settings), seed).tolist()


def test_all_is_every_decision():
    assert windows(4, windowing_mode="all") == [0, 1, 2, 3]


def test_last_is_the_last_decision():
    assert windows(4, windowing_mode="last") == [3]


def test_slide_takes_every_nth_from_the_first_up_to_a_number():
    settings = {"windowing_mode": "slide", "window_stride": 3}

    assert windows(10, **settings, max_windows_per_episode=9) == [0, 3, 6, 9]
    assert windows(10, **settings, max_windows_per_episode=2) == [0, 3]


def test_random_draws_without_replacement_from_the_seed_of_the_episode():
    settings = {"windowing_mode": "random", "max_windows_per_episode": 3}
    drawn = windows(10, seed=1, **settings)

    assert drawn == sorted(set(drawn))
    assert len(drawn) == 3
    assert drawn == windows(10, seed=1, **settings)
    assert any(drawn != windows(10, seed=seed, **settings) for seed in range(2, 6))
    assert windows(2, seed=1, **settings) == [0, 1]


@pytest.mark.parametrize("mode", ["all", "last", "random", "slide"])
def test_an_episode_without_decisions_has_no_windows(mode: str):
    assert windows(0, windowing_mode=mode) == []
