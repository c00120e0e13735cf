"""A simulator with the interface of ``EnvPool`` and no physics: bring a point to a goal in the plane.

The shortest way into the code: read this file, then pi0/ript/env/rollout/scheduler.py, which uses it.
examples/custom_policy.py runs it.
"""

import numpy as np
from numpy.typing import NDArray

from pi0.records import Observation, ObservationSpec
from pi0.ript.env.checks import check_actions
from pi0.ript.env.pool.ledger import SlotLedger
from pi0.ript.interfaces import Reply
from pi0.ript.types import EpisodeRequest, InitialState

SPEC = ObservationSpec(cameras=("above",), height=32, width=32)
GOAL = np.array([0.5, 0.5])
REACHED = 0.05  # meters from the goal
STEP = 0.1  # meters per control step at full speed


def toy_request(index: int, seed: int, max_steps: int = 30) -> EpisodeRequest:
    """Return an episode from one of the toy's initial states: eight points on a circle."""
    angle = 2 * np.pi * index / 8
    start = np.array([np.cos(angle), np.sin(angle)])
    state = InitialState(suite="toy", task_id=0, index=index, fixture_seed=0, state=start)
    return EpisodeRequest(initial_state=state, seed=seed, max_steps=max_steps, rollout=index)


def instruct(suite: str, task_id: int) -> str:
    """Return the instruction of the only task."""
    return "go to the goal"


class ToyPool(SlotLedger):
    """One point per slot. Requests run at once; ``wait`` returns their replies."""

    def __init__(self, num_slots: int) -> None:
        super().__init__(num_slots, num_workers=1, max_scenes=1)
        self._points: dict[int, NDArray[np.float64]] = {}
        self._replies: list[Reply] = []

    def restore(self, slot: int, initial_state: InitialState) -> None:
        """Put the slot's point where the episode begins."""
        self._begin_restore(slot, initial_state)
        self._points[slot] = initial_state.state.copy()
        self._reply(slot, 0)

    def execute(
        self,
        slot: int,
        actions: NDArray[np.float32],
        *,
        observe: bool = True,
        video: bool = False,
    ) -> None:
        """Move by up to h actions, float32 [h, 7], of which the first two count; stop at the goal."""
        check_actions(actions)
        self._begin(slot)
        num_steps = 0
        for action in actions:
            self._points[slot] = self._points[slot] + STEP * action[:2]
            num_steps += 1
            if self._is_reached(slot):
                break
        self._reply(slot, num_steps)

    def wait(self) -> list[Reply]:
        """Return the reply to every request."""
        replies, self._replies = self._replies, []
        self._busy.clear()
        return replies

    def release(self, slot: int) -> None:
        """Release the slot's scene."""
        self._ledger(slot).release(slot)

    def _is_reached(self, slot: int) -> bool:
        return bool(np.linalg.norm(self._points[slot] - GOAL) < REACHED)

    def _reply(self, slot: int, num_steps: int) -> None:
        observation = _observe(self._points[slot])
        is_success = self._is_reached(slot)
        self._replies.append(
            Reply(slot=slot, observation=observation, is_success=is_success, num_steps=num_steps)
        )


def _observe(point: NDArray[np.float64]) -> Observation:
    """Return an image with a white pixel at the point, and the point as the position of the hand."""
    image = np.zeros((1, SPEC.height, SPEC.width, 3), np.uint8)
    row, column = np.clip((point + 2) / 4 * SPEC.height, 0, SPEC.height - 1).astype(int)
    image[0, row, column] = 255
    return Observation(images=image, proprio=np.concatenate([point, np.zeros(7)]))
