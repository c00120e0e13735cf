"""A simulator of your own: anything with gymnasium's ``reset`` and ``step``, used through ``EnvPool``.

python -m examples.custom_simulator
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pi0.records import Observation
from pi0.ript.env.checks import check_actions
from pi0.ript.env.pool.ledger import SlotLedger
from pi0.ript.interfaces import Reply
from pi0.ript.types import InitialState


class GymEnv(Protocol):
    """The part of ``gymnasium.Env`` that is used; ``info["is_success"]`` is true once the task is solved."""

    def reset(self, *, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in the state ``options["state"]``."""
        ...

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one control step."""
        ...


class GymPool(SlotLedger):
    """One environment per slot, in this process. Requests run when ``wait`` is called.

    ``make_env`` is called once per slot; ``observe`` converts the environment's observations to ours.
    """

    def __init__(
        self, make_env: Callable[[], GymEnv], observe: Callable[[Any], Observation], num_slots: int
    ) -> None:
        super().__init__(num_slots, num_workers=1, max_scenes=1)
        self._envs = [make_env() for _ in range(num_slots)]
        self._observe = observe
        self._requests: list[Callable[[], Reply]] = []

    def restore(self, slot: int, initial_state: InitialState) -> None:
        """Reset the slot's environment to a state."""
        self._begin_restore(slot, initial_state)
        self._requests.append(lambda: self._reset(slot, initial_state.state))

    def execute(
        self, slot: int, actions: NDArray[np.float32], *, observe: bool = True, video: bool = False
    ) -> None:
        """Take up to h control steps, float32 [h, 7]; stop at success."""
        check_actions(actions)
        self._begin(slot)
        self._requests.append(lambda: self._step(slot, actions))

    def wait(self) -> list[Reply]:
        """Run the requests and return their replies."""
        requests, self._requests = self._requests, []
        replies = [request() for request in requests]
        self._busy -= {reply.slot for reply in replies}
        return replies

    def release(self, slot: int) -> None:
        """Release the slot's scene."""
        self._ledger(slot).release(slot)

    def _reset(self, slot: int, state: NDArray[np.float64]) -> Reply:
        raw, _ = self._envs[slot].reset(options={"state": state})
        return Reply(slot=slot, observation=self._observe(raw), is_success=False, num_steps=0)

    def _step(self, slot: int, actions: NDArray[np.float32]) -> Reply:
        num_steps, is_success, raw = 0, False, None
        while num_steps < len(actions) and not is_success:
            raw, _, _, _, info = self._envs[slot].step(actions[num_steps])
            num_steps, is_success = num_steps + 1, bool(info["is_success"])
        observed = self._observe(raw)
        return Reply(slot=slot, observation=observed, is_success=is_success, num_steps=num_steps)
