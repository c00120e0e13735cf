"""Control steps of the slots that take turns on one LIBERO environment, and what its observables show of them."""

# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# (mujoco's extension module and robosuite come without types.)

# ruff: noqa: SLF001 - robosuite offers no public way to its MuJoCo data and its gripper's joint indexes.

import time
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray
from robosuite.utils.transform_utils import convert_quat

from pi0.records import Observation
from pi0.ript.env.libero.controller import Panda
from pi0.ript.env.libero.libero_env import LiberoEnv, model_state, set_model_state
from pi0.ript.env.libero.renderer import Renderer
from pi0.ript.env.libero.slot import Slot


class Observer:
    """Takes the looks of a scene's slots and draws the last one taken.

    Attributes:
        render_seconds: Time spent drawing what policies see.
        video_seconds: Time spent drawing for films only.
    """

    def __init__(self, env: Any, panda: Panda, renderer: Renderer) -> None:
        """Read where the robot's hand is in a robosuite environment with one Panda."""
        self.render_seconds = 0.0
        self.video_seconds = 0.0
        self._panda, self._renderer = panda, renderer
        robot = env.robots[0]
        self._gripper_qpos = list(robot._ref_gripper_joint_pos_indexes)
        self._eef_body = env.sim.model.body_name2id(robot.robot_model.eef_name)

    def take(self, slot: Slot, *, observe: bool, will_draw: bool) -> None:
        """Note what observables would sample now.

        Args:
            slot: An activated slot.
            observe: False notes nothing for a picture.
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
        if observe:
            self._renderer.update_scene(data, cull=will_draw)

    def draw(self, proprio: NDArray[np.float64]) -> Observation:
        """Return the last look that was taken, with the proprioception that belongs to it."""
        started = time.perf_counter()
        images = self._renderer.render()
        self.render_seconds += time.perf_counter() - started
        return Observation(images=images, proprio=proprio)

    def video(self, slot: Slot, *, has_observed: bool) -> NDArray[np.uint8]:
        """Draw the last look of this command; before there is one, env.step shows the look before it."""
        assert slot.observation is not None
        if not has_observed:
            return slot.observation.images
        started = time.perf_counter()
        images = self._renderer.render()
        self.video_seconds += time.perf_counter() - started
        return images


class ControlSteps:
    """Puts a slot under robosuite's objects, steps it as ``env.step`` would, and takes it out again."""

    def __init__(self, libero: LiberoEnv, observations: Observer) -> None:
        """Read the periods of the environment."""
        self._env, self._model, self._observer = libero.domain, libero.model, observations
        self.timestep = self._env.model_timestep
        # Observables have a period of their own, which robosuite derives from the control rate.
        self._sampling_period = 1.0 / self._env.control_freq
        self._substeps = int(self._env.control_timestep / self.timestep)

    def activate(self, slot: Slot) -> None:
        """Let robosuite's objects read and write this slot."""
        self._env.sim.data._data = slot.data
        set_model_state(self._model, slot.model_state)

    def deactivate(self, slot: Slot) -> None:
        """Keep what the slot has changed on the model that all slots share."""
        slot.model_state = model_state(self._model)

    def run(
        self, slot: Slot, action: NDArray[np.floating], *, observe: bool, will_draw: bool
    ) -> bool:
        """Run one control step and return whether observables sampled in it.

        Args:
            slot: An activated slot.
            action: Float [7].
            observe: False notes nothing for a picture.
            will_draw: Whether this step's look is most likely the one that is drawn.
        """
        controller, data, model = slot.controller, slot.data, self._model
        has_observed = False
        for substep in range(self._substeps):
            mujoco.mj_step1(model, data)
            if substep == 0:
                controller.set_goal(action)
            controller.command()
            mujoco.mj_step2(model, data)
            if slot.clock.tick(self.timestep, self._sampling_period):
                self._observer.take(slot, observe=observe, will_draw=will_draw)
                has_observed = True
        return has_observed
