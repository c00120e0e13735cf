"""Settled initial states: those that were used last are copied instead of being settled once more."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's extension module comes without types.)

from collections import OrderedDict
from collections.abc import Callable

import mujoco
import numpy as np

from pi0.ript.env.libero.slot import Clock, Settled, Slot
from pi0.ript.types import InitialState

STATE_KIND = int(mujoco.mjtState.mjSTATE_INTEGRATION)

Settle = Callable[[Slot, InitialState], None]
"""Brings a slot to a settled initial state, observation included, as LIBERO does."""


class SettledStates:
    """Restores slots of one scene, and keeps the settled states that were used last.

    Copying a settled state gives the same simulation as settling it once more.
    """

    def __init__(self, model: mujoco.MjModel, settle: Settle, *, max_kept: int) -> None:
        """Keep nothing yet.

        Args:
            model: The model that all slots share.
            settle: Settles a state that is not kept.
            max_kept: Most states that are kept.
        """
        self._model, self._settle, self._max_kept = model, settle, max_kept
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
