"""Leaving out what cannot be seen changes no pixel."""

import numpy as np
import pytest

from pi0.records import ObservationSpec

pytestmark = pytest.mark.libero

CAMERAS = ("agentview", "robot0_eye_in_hand")


@pytest.mark.parametrize(("suite", "task_id"), [("libero_goal", 7), ("libero_object", 0)])
@pytest.mark.parametrize("quality", ["exact", "fast"])
def test_images_without_hidden_shapes_are_the_same(suite: str, task_id: int, quality: str) -> None:
    from pi0.ript.env.initial_states import make_initial_state  # noqa: PLC0415
    from pi0.ript.env.libero.scene import Scene  # noqa: PLC0415 - needs the simulator

    spec = ObservationSpec(cameras=CAMERAS, height=128, width=128, quality=quality)
    scene = Scene(suite, task_id, spec, num_slots=1, num_steps_wait=10)
    renderer, data = scene._renderer, scene._slots[0].data
    scene.restore(0, make_initial_state(suite, task_id, 0, 0))
    rng = np.random.default_rng(0)
    counts = []
    for _ in range(8):
        scene.execute(0, rng.uniform(-1, 1, (5, 7)).astype(np.float32), observe=False)
        images = []
        for cull in (False, True):
            renderer.update_scene(data, cull=cull)
            counts.append(sum(shapes.ngeom for shapes in renderer._scenes))
            images.append(renderer.render())
        assert np.array_equal(*images)
    scene.close()
    # The wrist camera looks away from most of the robot.
    assert sum(counts[1::2]) < 0.8 * sum(counts[::2])


def test_with_more_shapes_than_libero_draws_the_same_ones_are_lost(monkeypatch) -> None:
    from pi0.ript.env.initial_states import make_initial_state  # noqa: PLC0415
    from pi0.ript.env.libero import renderer  # noqa: PLC0415 - needs the simulator
    from pi0.ript.env.libero.scene import Scene  # noqa: PLC0415

    monkeypatch.setattr(renderer, "MAX_GEOMS", 40)  # of about 80; no scene of LIBERO has 1,000
    spec = ObservationSpec(cameras=CAMERAS, height=64, width=64, quality="exact")
    scene = Scene("libero_goal", 7, spec, num_slots=1, num_steps_wait=0)
    scene.restore(0, make_initial_state("libero_goal", 7, 0, 0))
    images = []
    for cull in (False, True):
        scene._renderer.update_scene(scene._slots[0].data, cull=cull)
        images.append(scene._renderer.render())
    scene.close()

    assert np.array_equal(*images)
