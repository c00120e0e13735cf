"""Scenes that were dropped to free memory are built again as they were."""

import numpy as np
import pytest

from pi0.ript.env.initial_states import make_initial_state
from tests.env.pools import inline_pool, process_pool

pytestmark = pytest.mark.libero

STATE = make_initial_state("libero_goal", 7, 0, 0)


@pytest.mark.parametrize("kind", [inline_pool, process_pool])
def test_a_dropped_scene_is_built_again_and_gives_the_same_observation(kind):
    with kind(max_scenes=2) as pool:
        pool.restore(0, STATE)
        [before] = pool.wait()
        pool.drop_scenes()  # the slot holds the scene, which stays
        pool.execute(0, np.zeros((1, 7), np.float32))
        [held] = pool.wait()
        pool.release(0)
        pool.drop_scenes()
        pool.restore(0, STATE)
        [after] = pool.wait()

    assert not held.error
    assert after.counts["scene_builds"] == 1
    np.testing.assert_array_equal(before.observation.images, after.observation.images)
    np.testing.assert_array_equal(before.observation.proprio, after.observation.proprio)
