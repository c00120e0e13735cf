"""Scenes that share a GL context draw what each draws alone, and hold each texture and mesh once."""

import numpy as np
import pytest

from pi0.records import ObservationSpec
from pi0.ript.env.initial_states import make_initial_state

pytestmark = pytest.mark.libero

SPEC = ObservationSpec(cameras=("agentview", "robot0_eye_in_hand"), height=64, width=64)
TASKS = (("libero_object", 0), ("libero_object", 1), ("libero_goal", 7))
ACTIONS = np.random.default_rng(0).uniform(-1, 1, (5, 7)).astype(np.float32)


def open_scene(suite, task_id, drawing=None):
    from pi0.ript.env.libero.scene import Scene  # noqa: PLC0415 - only simulator tests load the simulator

    return Scene(suite, task_id, SPEC, num_slots=1, num_steps_wait=2, drawing=drawing)


def new_drawing():
    from pi0.ript.env.libero.shared_drawing import SharedDrawing  # noqa: PLC0415 - as above

    return SharedDrawing()


def restored(scene):
    state = make_initial_state(scene.suite, scene.task_id, 0, fixture_seed=0)
    return scene.restore(0, state).images


def acted(scene):
    return scene.execute(0, ACTIONS).observation.images


def alone(suite, task_id):
    scene = open_scene(suite, task_id)
    images = restored(scene), acted(scene)
    scene.close()
    return images


def test_scenes_draw_in_turns_what_each_draws_alone():
    expected = [alone(*task) for task in TASKS]
    drawing = new_drawing()
    scenes = [open_scene(*task, drawing) for task in TASKS]

    at_rest = [restored(scene) for scene in scenes]
    later = [acted(scene) for scene in reversed(scenes)][::-1]

    for first, second, images in zip(at_rest, later, expected, strict=True):
        np.testing.assert_array_equal(first, images[0])
        np.testing.assert_array_equal(second, images[1])
    for scene in scenes:
        scene.close()


def test_a_scene_draws_on_when_one_that_had_its_textures_first_is_closed():
    expected = alone(*TASKS[1])
    drawing = new_drawing()
    first, second = open_scene(*TASKS[0], drawing), open_scene(*TASKS[1], drawing)
    np.testing.assert_array_equal(restored(second), expected[0])

    first.close()
    third = open_scene(*TASKS[2], drawing)  # gets the names that the first has left

    np.testing.assert_array_equal(acted(second), expected[1])
    second.close()
    third.close()


def test_a_scene_of_the_same_suite_adds_only_what_is_new_and_the_last_one_frees_all():
    drawing = new_drawing()
    first = open_scene(*TASKS[0], drawing)
    before = len(drawing.textures), len(drawing.meshes)
    second = open_scene(*TASKS[1], drawing)

    # Two objects of the second task are none of the first's; each has a texture and a mesh or two.
    assert before < (len(drawing.textures), len(drawing.meshes)) <= (before[0] + 2, before[1] + 4)
    first.close()
    second.close()
    assert (len(drawing.textures), len(drawing.meshes)) == (0, 0)

    again = open_scene(*TASKS[0], drawing)
    np.testing.assert_array_equal(restored(again), alone(*TASKS[0])[0])
    again.close()
