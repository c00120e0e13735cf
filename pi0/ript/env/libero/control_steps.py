"""Control steps of the slots that take turns on one LIBERO environment, as ``env.step`` would run them."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's extension module and robosuite come without types.)

# ruff: noqa: SLF001 - robosuite offers no public way to its MuJoCo model and data.

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from pi0.ript.env.libero.slot import Slot, model_state, set_model_state

Sample = Callable[[Slot], None]
"""Called with the slot wherever robosuite's observables would sample it."""


class ControlSteps:
    """Puts a slot under robosuite's objects, steps it as ``env.step`` would, and takes it out again."""

    def __init__(self, env: Any) -> None:
        """Read the periods of a robosuite environment."""
        self._sim = env.sim
        self._model: mujoco.MjModel = env.sim.model._model
        self.timestep: float = env.model_timestep
        # Observables have a period of their own, which robosuite derives from the control rate.
        self._sampling_period = 1.0 / env.control_freq
        self._substeps = int(env.control_timestep / self.timestep)

    def activate(self, slot: Slot) -> None:
        """Let robosuite's objects read and write this slot."""
        self._sim.data._data = slot.data
        set_model_state(self._model, slot.model_state)

    def deactivate(self, slot: Slot) -> None:
        """Keep what the slot has changed on the model that all slots share."""
        slot.model_state = model_state(self._model)

    def run(self, slot: Slot, action: NDArray[np.floating], sample: Sample) -> bool:
        """Run one control step and return whether observables sampled in it.

        Args:
            slot: An activated slot.
            action: Float [7].
            sample: Called in the substep after which observables sample.
        """
        controller, data, model = slot.controller, slot.data, self._model
        has_sampled = False
        for substep in range(self._substeps):
            mujoco.mj_step1(model, data)
            self._warm_start(slot)
            if substep == 0:
                controller.set_goal(action)
            controller.command()
            mujoco.mj_step2(model, data)
            if slot.clock.tick(self.timestep, self._sampling_period):
                sample(slot)
                has_sampled = True
        return has_sampled

    def _warm_start(self, slot: Slot) -> None:
        """Leave the constraint solver where robosuite's forward passes leave it.

        robosuite runs the whole forward dynamics with the commands of the last substep before it asks the
        controller, which runs it once more when it reads the robot. Each pass starts the solver from the
        solution of the one before, and the step with the new commands starts from theirs. Everything
        before the solver stays as ``mj_step1`` computed it.
        """
        model, data = self._model, slot.data
        mujoco.mj_fwdActuation(model, data)
        mujoco.mj_fwdAcceleration(model, data)
        mujoco.mj_fwdConstraint(model, data)
        if not slot.controller.has_reading:
            mujoco.mj_fwdConstraint(model, data)
