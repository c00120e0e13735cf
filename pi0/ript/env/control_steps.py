"""Control steps of the slots that take turns on one LIBERO environment."""

# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# (mujoco's extension module and robosuite come without types.)

# ruff: noqa: SLF001 - robosuite offers no public way to its MuJoCo data.

import mujoco
import numpy as np
from numpy.typing import NDArray

from pi0.ript.env.libero_env import LiberoEnv, model_state, set_model_state
from pi0.ript.env.looks import Looks
from pi0.ript.env.slot import Slot


class ControlSteps:
    """Puts a slot under robosuite's objects, steps it as ``env.step`` would, and takes it out again."""

    def __init__(self, libero: LiberoEnv, looks: Looks) -> None:
        """Read the periods of the environment."""
        self._env, self._model, self._looks = libero.domain, libero.model, looks
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

    def run(self, slot: Slot, action: NDArray[np.floating], *, look: bool, will_draw: bool) -> bool:
        """Run one control step and return whether observables sampled in it.

        Args:
            slot: An activated slot.
            action: Float [7].
            look: False notes nothing for a picture.
            will_draw: Whether this step's look is most likely the one that is drawn.
        """
        controller, data, model = slot.controller, slot.data, self._model
        has_looked = False
        for substep in range(self._substeps):
            mujoco.mj_step1(model, data)
            if substep == 0:
                controller.set_goal(action)
            controller.command()
            mujoco.mj_step2(model, data)
            if slot.clock.tick(self.timestep, self._sampling_period):
                self._looks.take(slot, look=look, will_draw=will_draw)
                has_looked = True
        return has_looked
