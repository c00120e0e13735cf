"""What only drawing reads is given back, and the physics never notice."""

import sys

import numpy as np
import pytest

pytestmark = [
    pytest.mark.libero,
    pytest.mark.skipif(sys.platform != "linux", reason="other systems keep the pages"),
]

# A lumpy stone of 5,000 vertices, whose hull falls on another one.
STONE = np.random.default_rng(0).normal(size=(5000, 3))
STONE /= np.linalg.norm(STONE, axis=1, keepdims=True) * np.linspace(8, 12, 5000)[:, None]
XML = f"""
<mujoco>
  <asset>
    <texture name="rock" type="2d" builtin="gradient" rgb1="1 0 0" rgb2="0 0 1" width="256" height="256"/>
    <material name="rock" texture="rock"/>
    <mesh name="stone" vertex="{" ".join(f"{value:.6f}" for value in STONE.ravel())}"/>
  </asset>
  <worldbody>
    <geom type="plane" size="1 1 1"/>
    <body pos="0 0 0.2"><freejoint/><geom type="mesh" mesh="stone" material="rock"/></body>
    <body pos="0.03 0 0.5">
      <freejoint/><geom type="mesh" mesh="stone"/><geom type="sphere" size="0.02" pos="0 0 0.1"/>
    </body>
  </worldbody>
</mujoco>
"""


def compiled():
    import mujoco  # noqa: PLC0415 - only simulator tests load the simulator

    return mujoco.MjModel.from_xml_string(XML)


def fallen(model):
    import mujoco  # noqa: PLC0415 - as above

    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, nstep=400)
    return np.concatenate([data.qpos, data.qvel]), data.ncon


def test_bodies_fall_and_collide_as_before():
    from pi0.ript.env.libero.unread_pages import release_unread  # noqa: PLC0415 - as above

    model = compiled()
    release_unread(model)
    (state, num_contacts), (expected, num_expected) = fallen(model), fallen(compiled())

    np.testing.assert_array_equal(state, expected)
    assert num_contacts == num_expected > 0


def test_what_is_drawn_is_given_back_and_nothing_beside_it_is_touched():
    from pi0.ript.env.libero.unread_pages import DRAWN, TREES, release_unread  # noqa: PLC0415

    model, before = compiled(), compiled()
    release_unread(model)

    # All but the first and the last page of 192 KiB.
    assert (model.tex_data == 0).mean() > 0.9
    changed = {
        name
        for name in dir(before)
        if isinstance(value := getattr(before, name), np.ndarray)
        and not np.array_equal(value, getattr(model, name))
    }
    assert "tex_data" in changed
    assert changed <= {*DRAWN, *TREES}
