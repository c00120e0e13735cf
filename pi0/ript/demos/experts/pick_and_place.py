"""Grasp something from above and release it over something else; and skills one after the other."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pi0.ript.demos.experts.motion import CLOSED, OPEN, Action, Expert, Hand, Offset, Poses, Vector


@dataclass(frozen=True, kw_only=True)
class PickAndPlace:
    """Grasp ``item`` from above and release it over ``goal``.

    Attributes:
        item: Body to pick up.
        goal: Body above which it is released.
        grasp: Offset of the grasp from the item's origin.
        release: Offset of the release point from the goal's origin.
        yaw: How far the fingers are turned for the grasp, rad.
        approach: Height above the grasp from which the hand comes down, m.
        retreat: Where the grasped item goes before it is lifted, from where it stood.
        lift: Height gained before moving sideways, m.
        closing_steps: Control steps the fingers get to close.
    """

    item: str
    goal: str
    grasp: Offset = (0.0, 0.0, 0.0)
    release: Offset = (0.0, 0.0, 0.1)
    yaw: float = 0.0
    approach: float = 0.06
    retreat: Offset = (0.0, 0.0, 0.0)
    lift: float = 0.12
    closing_steps: int = 6

    def __call__(self, poses: Poses) -> Iterator[Action]:
        """Yield the actions of one attempt."""
        hand = Hand(poses)
        hand.turn(self.yaw)
        yield from self._pick(poses, hand)
        yield from hand.shift(self.retreat, CLOSED)
        yield from hand.shift((0.0, 0.0, self.lift), CLOSED, tolerance=0.03)
        yield from self._place(poses, hand)

    def _pick(self, poses: Poses, hand: Hand) -> Iterator[Action]:
        grasp = np.array(self.grasp)
        above = grasp + [0.0, 0.0, self.approach]
        yield from hand.reach(lambda: poses.position(self.item) + above, OPEN, tolerance=0.015)
        yield from hand.reach(lambda: poses.position(self.item) + grasp, OPEN, tolerance=0.008)
        yield from hand.hold(CLOSED, self.closing_steps)

    def _place(self, poses: Poses, hand: Hand) -> Iterator[Action]:
        height = hand.position[2]

        def target() -> Vector:
            # The item hangs off-center in the gripper; the item, not the gripper, goes to the goal.
            hang = hand.position - poses.position(self.item)
            return poses.position(self.goal) + self.release + [hang[0], hang[1], 0.0]

        def over() -> Vector:
            goal = target()
            return np.array([goal[0], goal[1], max(height, goal[2])])

        yield from hand.reach(over, CLOSED, tolerance=0.02)
        yield from hand.reach(target, CLOSED, tolerance=0.015)
        yield from hand.hold(OPEN, 10)


@dataclass(frozen=True)
class InOrder:
    """Several skills, each begun where the one before has left the hand."""

    skills: tuple[Expert, ...]

    def __call__(self, poses: Poses) -> Iterator[Action]:
        """Yield the actions of one attempt."""
        for skill in self.skills:
            yield from skill(poses)
