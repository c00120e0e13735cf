"""What LIBERO's observables show of a simulation: proprioception, noted at once, and pictures, drawn later."""

# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# (mujoco's extension module and robosuite come without types.)

# ruff: noqa: SLF001 - robosuite offers no public way to the indexes of its gripper's joints.

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from robosuite.utils.transform_utils import convert_quat

from pi0.records import Observation
from pi0.ript.env.controller import Panda
from pi0.ript.env.renderer import Renderer
from pi0.ript.env.slot import Slot


class Looks:
    """Takes the looks of a scene's slots and draws the last one taken.

    Attributes:
        render_seconds: Time spent drawing what policies see.
        film_seconds: Time spent drawing for films only.
    """

    def __init__(self, env: Any, panda: Panda, renderer: Renderer) -> None:
        """Read where the robot's hand is in a robosuite environment with one Panda."""
        self.render_seconds = 0.0
        self.film_seconds = 0.0
        self._panda, self._renderer = panda, renderer
        robot = env.robots[0]
        self._gripper_qpos = list(robot._ref_gripper_joint_pos_indexes)
        self._eef_body = env.sim.model.body_name2id(robot.robot_model.eef_name)

    def take(self, slot: Slot, *, look: bool, will_draw: bool) -> None:
        """Note what observables would sample now.

        Args:
            slot: An activated slot.
            look: False notes nothing for a picture.
            will_draw: Whether this look is most likely the one that is drawn.
        """
        data = slot.data
        slot.proprio = np.concatenate(
            [
                data.site_xpos[self._panda.site_id],
                convert_quat(data.xquat[self._eef_body], to="xyzw"),
                data.qpos[self._gripper_qpos],
            ]
        )
        if look:
            self._renderer.look(data, cull=will_draw)

    def draw(self, proprio: NDArray[np.float64]) -> Observation:
        """Return the last look that was taken, with the proprioception that belongs to it."""
        started = time.perf_counter()
        images = self._renderer.render()
        self.render_seconds += time.perf_counter() - started
        return Observation(images=images, proprio=proprio)

    def film(self, slot: Slot, *, has_looked: bool) -> NDArray[np.uint8]:
        """Draw the last look of this command; before there is one, env.step shows the look before it."""
        assert slot.observation is not None
        if not has_looked:
            return slot.observation.images
        started = time.perf_counter()
        images = self._renderer.render()
        self.film_seconds += time.perf_counter() - started
        return images
