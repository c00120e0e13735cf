"""Where fixtures stand: drawn for every episode as published protocols do, never one practiced and measured."""

from collections.abc import Iterable

import numpy as np
import pytest

from pi0.ript.config.base import ConfigError
from pi0.ript.config.load import read_config
from pi0.ript.config.schema import TaskConfig
from pi0.ript.env.initial_states import initial_states, states_of_caller, training_states
from pi0.ript.evaluation.episodes import evaluation_requests
from pi0.ript.seeding import held_out_fixtures, practice_fixtures
from pi0.ript.types import InitialState

TASK = ("libero_goal", 7)


def fixtures(states: Iterable[InitialState]) -> list[int]:
    return [state.fixture_seed for state in states]


def measured(fixture_seed: int | None, seed: int = 42) -> list[int]:
    requests = evaluation_requests(
        [TASK], episodes_per_task=45, held_out=20, fixture_seed=fixture_seed, seed=seed,
        max_episode_length=None, protocol="openpi",
    )  # fmt: skip
    return fixtures(request.initial_state for request in requests)


def practiced(fixture_seed: int | None, *draw: int) -> list[int]:
    return fixtures(
        training_states(*TASK, count=45, held_out=20, fixture_seed=fixture_seed, draw=draw)
    )


def test_no_draw_is_both_practiced_and_held_out():
    # The two halves of numpy's seeds, whatever the names are.
    names = [(n, "task", str(n)) for n in range(1000)]

    assert all(0 <= practice_fixtures(*name) < 2**31 for name in names)
    assert all(2**31 <= held_out_fixtures(*name) < 2**32 for name in names)


def test_every_held_out_episode_has_a_draw_of_its_own_that_the_seed_decides():
    draws = measured(None)

    assert len(set(draws)) == 45
    assert min(draws) >= 2**31
    assert draws == measured(None)
    assert not set(draws) & set(measured(None, seed=43))


def test_liberos_own_states_have_another_draw_at_every_visit():
    assert len({*practiced(None, 42), *practiced(None, 43)}) == 90  # 45 visits of 30 states each
    assert practiced(None, 42) == practiced(None, 42)
    assert max(practiced(None, 42)) < 2**31


def test_fixed_fixtures_are_those_of_the_seed_everywhere():
    assert {*measured(5), *practiced(5, 42)} == {5}


def test_equal_states_of_a_caller_are_siblings_and_others_are_not():
    own = initial_states(*TASK)
    states = np.stack([own[0], own[0], own[1]])

    drawn, again = (
        fixtures(states_of_caller(*TASK, states, count=3, fixture_seed=None, draw=(42,)))
        for _ in range(2)
    )

    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn == again


def test_fixtures_are_drawn_unless_a_configuration_fixes_them():
    assert TaskConfig().shared_fixture_seed is None
    assert TaskConfig(fixtures="fixed").shared_fixture_seed == 0
    assert TaskConfig(fixtures="fixed", fixture_seed=5).shared_fixture_seed == 5


def test_a_seed_where_fixtures_are_drawn_is_refused():
    with pytest.raises(ValueError, match=r"fixture_seed is 5, but task\.fixtures per_episode"):
        TaskConfig(fixture_seed=5)


def test_a_configuration_from_before_fixtures_were_drawn_keeps_its_own(tmp_path, caplog):
    path = tmp_path / "settings.yaml"
    path.write_text("task: {fixture_seed: 0}\n")

    assert read_config(path).task.shared_fixture_seed == 0
    assert "task.fixture_seed=0 is given: using task.fixtures=fixed" in caplog.text

    path.write_text("task: {fixture_seed: 3, fixtures: per_episode}\n")
    with pytest.raises(ConfigError, match=r"set task\.fixtures to fixed"):
        read_config(path)
