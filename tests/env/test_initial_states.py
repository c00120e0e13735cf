"""Initial states as LIBERO ships them, and which of them are held out."""

import numpy as np

from pi0.ript.env.initial_states import initial_states, make_initial_state, split


def test_initial_states_are_liberos_own():
    states = initial_states("libero_goal", 7)

    assert (states.shape[0], states.dtype) == (50, np.float64)
    state = make_initial_state("libero_goal", 7, 3, fixture_seed=5)
    np.testing.assert_array_equal(state.state, states[3])
    assert state.key == make_initial_state("libero_goal", 7, 3, fixture_seed=5).key
    assert state.key != make_initial_state("libero_goal", 7, 3, fixture_seed=6).key


def test_the_last_states_are_held_out():
    train, held_out = split(20)

    assert train == tuple(range(30))
    assert held_out == tuple(range(30, 50))
