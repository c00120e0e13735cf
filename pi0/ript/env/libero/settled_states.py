"""Settled initial states: how LIBERO brings a simulation to one, and those that need no repetition."""

# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# (mujoco's extension module and robosuite come without types.)

# ruff: noqa: SLF001 - robosuite offers no public way to its reset parts.

from collections import OrderedDict

import mujoco
import numpy as np
from numpy.typing import NDArray

from pi0.ript.env.libero.control_steps import ControlSteps, Observer
from pi0.ript.env.libero.libero_env import LiberoEnv
from pi0.ript.env.libero.slot import Clock, Settled, Slot
from pi0.ript.types import InitialState

SETTLE_ACTION = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])
STATE_KIND = int(mujoco.mjtState.mjSTATE_INTEGRATION)


class SettledStates:
    """Restores slots of one scene, and keeps the settled states that were used last.

    Copying a settled state gives the same simulation as settling it once more.
    """

    def __init__(
        self,
        libero: LiberoEnv,
        steps: ControlSteps,
        observations: Observer,
        *,
        num_steps_wait: int,
        max_kept: int,
    ) -> None:
        """Keep nothing yet.

        Args:
            libero: The environment that all slots share.
            steps: Its control steps.
            observations: Its looks.
            num_steps_wait: Settling steps that follow every restore.
            max_kept: Most states that are kept.
        """
        self._libero, self._env, self._model = libero, libero.domain, libero.model
        self._steps, self._observer = steps, observations
        self._num_steps_wait, self._max_kept = num_steps_wait, max_kept
        self._robot = self._env.robots[0]
        self._kept: OrderedDict[str, Settled] = OrderedDict()

    def __contains__(self, initial_state: InitialState) -> bool:
        return initial_state.key in self._kept

    def restore(self, slot: Slot, initial_state: InitialState) -> None:
        """Bring a slot to a settled initial state of this scene's task."""
        key = initial_state.key
        if key in self._kept:
            self._kept.move_to_end(key)
            self._install(slot, self._kept[key])
        else:
            self._settle(slot, initial_state)
            self._kept[key] = self._snapshot(slot)
            if len(self._kept) > self._max_kept:
                self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forget all states."""
        self._kept.clear()

    def _settle(self, slot: Slot, initial_state: InitialState) -> None:
        self._steps.activate(slot)
        self._libero.reset(initial_state.fixture_seed)
        slot.controller.adopt(self._robot.controller)
        slot.is_success = False
        slot.clock = Clock()
        slot.clock.force(self._steps.timestep)
        self._set_state(slot, initial_state.state)
        for step in range(self._num_steps_wait):
            is_last = step == self._num_steps_wait - 1
            self._steps.run(slot, SETTLE_ACTION, observe=True, will_draw=is_last)
            self._env._post_process()
        self._steps.deactivate(slot)
        slot.observation = self._observer.draw(slot.proprio)

    def _set_state(self, slot: Slot, state: NDArray[np.float64]) -> None:
        sim = self._env.sim
        sim.set_state_from_flattened(state)
        sim.forward()
        self._env._check_success()
        self._env._post_process()
        slot.clock.force(self._steps.timestep)
        self._observer.take(slot, observe=True, will_draw=self._num_steps_wait == 0)

    def _snapshot(self, slot: Slot) -> Settled:
        assert slot.observation is not None
        state = np.empty(mujoco.mj_stateSize(self._model, STATE_KIND))
        mujoco.mj_getState(self._model, slot.data, state, STATE_KIND)
        return Settled(
            state=state,
            control=slot.controller.state(),
            model_state=slot.model_state,
            clock=(slot.clock.elapsed, slot.clock.has_sampled),
            proprio=slot.proprio,
            observation=slot.observation,
        )

    def _install(self, slot: Slot, settled: Settled) -> None:
        mujoco.mj_resetData(self._model, slot.data)
        mujoco.mj_setState(self._model, slot.data, settled.state, STATE_KIND)
        slot.controller.install(settled.control)
        slot.model_state = settled.model_state
        slot.clock = Clock(elapsed=settled.clock[0], has_sampled=settled.clock[1])
        slot.proprio = settled.proprio
        slot.observation = settled.observation
        slot.is_success = False
