"""Scripted experts: they read poses from the simulator, which no policy may, and succeed by construction.

An expert is a generator of actions. It is resumed after each action was executed, so it always acts
on the latest poses. Actions are LIBERO's: position deltas in units of 5 cm, rotation deltas in
units of 0.5 rad, gripper -1 open and +1 closed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Action = NDArray[np.float64]

OPEN, CLOSED = -1.0, 1.0
GAIN = 50.0  # 1 / m: full speed beyond 2 cm from the waypoint.
TURN_STEPS = 45
EEF_BODY = "gripper0_eef"


class Poses(Protocol):
    """Privileged access to the simulator."""

    def position(self, body: str) -> Vector:
        """Return the position of a body in the world, float64 [3], m."""
        ...


Expert = Callable[[Poses], Iterator[Action]]


def _toward(poses: Poses, target: Vector, gripper: float) -> Action:
    action = np.zeros(7)
    action[:3] = np.clip(GAIN * (target - poses.position(EEF_BODY)), -1, 1)
    action[6] = gripper
    return action


def _reach(
    poses: Poses,
    target: Callable[[], Vector],
    gripper: float,
    *,
    tolerance: float = 0.01,
    max_steps: int = 60,
) -> Iterator[Action]:
    """Move the gripper to a waypoint that may itself move; give up after ``max_steps``."""
    for _ in range(max_steps):
        goal = target()
        if np.linalg.norm(goal - poses.position(EEF_BODY)) < tolerance:
            return
        yield _toward(poses, goal, gripper)


def _hold(poses: Poses, gripper: float, num_steps: int) -> Iterator[Action]:
    here = poses.position(EEF_BODY)
    for _ in range(num_steps):
        yield _toward(poses, here, gripper)


@dataclass(frozen=True, kw_only=True)
class PickAndPlace:
    """Grasp ``item`` from above and release it over ``goal``.

    Attributes:
        item: Body to pick up.
        goal: Body above which it is released.
        grasp: Offset of the grasp from the item's origin, m.
        release: Offset of the release point from the goal's origin, m.
        lift: Height gained before moving sideways, m.
        closing_steps: Control steps the fingers get to close.
    """

    item: str
    goal: str
    grasp: tuple[float, float, float] = (0.0, 0.0, 0.0)
    release: tuple[float, float, float] = (0.0, 0.0, 0.1)
    lift: float = 0.12
    closing_steps: int = 6

    def __call__(self, poses: Poses) -> Iterator[Action]:
        """Yield the actions of one attempt."""
        yield from self._pick(poses)
        start = poses.position(EEF_BODY)
        up = start + [0.0, 0.0, self.lift]
        yield from _reach(poses, lambda: up, CLOSED, tolerance=0.03)
        yield from self._place(poses)

    def _pick(self, poses: Poses) -> Iterator[Action]:
        grasp = np.array(self.grasp)
        above = grasp + [0.0, 0.0, 0.06]
        yield from _reach(poses, lambda: poses.position(self.item) + above, OPEN, tolerance=0.015)
        yield from _reach(
            poses, lambda: poses.position(self.item) + grasp, OPEN, tolerance=0.008, max_steps=25
        )
        yield from _hold(poses, CLOSED, self.closing_steps)

    def _place(self, poses: Poses) -> Iterator[Action]:
        # The item hangs off-center in the gripper; aim so that the item, not the gripper, is centered.
        hang = poses.position(EEF_BODY) - poses.position(self.item)
        offset = np.array(self.release) + [hang[0], hang[1], 0.0]
        height = max(poses.position(EEF_BODY)[2], (poses.position(self.goal) + offset)[2])

        def over() -> Vector:
            return np.array([*(poses.position(self.goal) + offset)[:2], height])

        yield from _reach(poses, over, CLOSED, tolerance=0.02)
        yield from _reach(
            poses, lambda: poses.position(self.goal) + offset, CLOSED, tolerance=0.02, max_steps=25
        )
        yield from _hold(poses, OPEN, 10)


@dataclass(frozen=True, kw_only=True)
class TurnKnob:
    """Close the fingers on ``knob`` and turn the wrist."""

    knob: str

    def __call__(self, poses: Poses) -> Iterator[Action]:
        """Yield the actions of one attempt."""

        def above(height: float) -> Vector:
            return poses.position(self.knob) + [0.0, 0.0, height]

        yield from _reach(poses, lambda: above(0.08), OPEN, tolerance=0.015)
        yield from _reach(poses, lambda: above(0.01), OPEN, max_steps=20)
        yield from _hold(poses, CLOSED, 5)
        for _ in range(TURN_STEPS):
            yield np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.0, CLOSED])


BOWL = "akita_black_bowl_1_main"

EXPERTS: dict[tuple[str, int], Expert] = {
    ("libero_goal", 1): PickAndPlace(
        item=BOWL,
        goal="flat_stove_1_burner",
        grasp=(0.0, -0.048, 0.03),  # on the rim: the bowl is wider than the gripper opens
        release=(0.0, 0.0, 0.08),
        closing_steps=14,
    ),
    ("libero_goal", 6): PickAndPlace(item="cream_cheese_1_main", goal=BOWL),
    ("libero_goal", 7): TurnKnob(knob="flat_stove_1_button"),
    ("libero_object", 0): PickAndPlace(
        item="alphabet_soup_1_main",
        goal="basket_1_main",
        grasp=(0.0, 0.0, 0.01),
        release=(0.0, 0.0, 0.15),
        lift=0.2,
    ),
}
"""(suite, task index) -> expert, for the tasks the embedded policy covers."""
