"""Skills without a grasp: fingertips drag a drawer open, push something over the table, or turn a knob."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pi0.ript.demos.experts.motion import CLOSED, OPEN, Action, Hand, Offset, Poses, Vector

TURN_STEPS = 45
LEAD = 0.04  # m: how far ahead of what it drags the hand aims, which is how hard it pulls


@dataclass(frozen=True, kw_only=True)
class Drag:
    """Press closed fingertips on ``body`` and take it along, then let go of it.

    Attributes:
        body: What is dragged; a drawer's own body moves with the drawer.
        contact: Offset from the body's origin where the fingertips come down.
        way: How far the body is taken, from where it stood at first.
        press: How far below the contact the fingertips aim, which is how hard they press, m.
        yaw: How far the fingers are turned, rad.
        pitch: How far they are tilted, rad.
        approach: Offset from the contact from which the hand comes.
        max_steps: Control steps of the drag.
    """

    body: str
    contact: Offset
    way: Offset
    press: float = 0.02
    yaw: float = 0.0
    pitch: float = 0.0
    approach: Offset = (0.0, 0.0, 0.08)
    max_steps: int = 60

    def __call__(self, poses: Poses) -> Iterator[Action]:
        """Yield the actions of one attempt."""
        hand, start = Hand(poses), poses.position(self.body)
        hand.turn(self.yaw, self.pitch)
        contact = np.array(self.contact)
        before = contact + self.approach
        yield from hand.reach(lambda: poses.position(self.body) + before, CLOSED, tolerance=0.015)
        yield from hand.reach(lambda: poses.position(self.body) + contact, CLOSED, max_steps=25)
        yield from self._drag(poses, hand, start + self.way)
        yield from hand.shift((0.0, 0.0, 0.08), CLOSED)

    def _drag(self, poses: Poses, hand: Hand, goal: Vector) -> Iterator[Action]:
        """Move the hand ahead of the body until that is within 1 cm of where it should go."""
        contact = np.array(self.contact) - [0.0, 0.0, self.press]
        for _ in range(self.max_steps):
            here = poses.position(self.body)
            left = goal - here
            distance = np.linalg.norm(left)
            if distance < 0.01:
                return
            yield hand.toward(here + contact + left * (LEAD / distance), CLOSED)


@dataclass(frozen=True, kw_only=True)
class Push:
    """Push ``body`` over the table with both fingertips of the open hand, so that it cannot roll off to a side.

    Attributes:
        body: What is pushed.
        goal: Body that the place is counted from.
        place: Offset from the goal's origin of where the body is pushed; its height is that of the fingertips on the way.
        behind: How far behind the body's origin the hand comes down, m.
        yaw: How far the fingers are turned until they push, rad; then they stand across the way.
        pitch: How far they are tilted, rad.
        approach: Offset from behind the body from which the hand comes.
        max_steps: Control steps of the push.
    """

    body: str
    goal: str
    place: Offset
    behind: float
    yaw: float = 0.0
    pitch: float = 0.0
    approach: Offset = (0.0, 0.0, 0.1)
    max_steps: int = 100

    def __call__(self, poses: Poses) -> Iterator[Action]:
        """Yield the actions of one attempt."""
        hand = Hand(poses)
        hand.turn(self.yaw, self.pitch)

        def behind() -> Vector:
            left = self._left(poses)
            here = poses.position(self.goal) + self.place - left
            return here - left * (self.behind / np.linalg.norm(left))

        yield from hand.reach(lambda: behind() + self.approach, OPEN, tolerance=0.015)
        yield from hand.reach(behind, OPEN, max_steps=25)
        yield from self._push(poses, hand)
        yield from hand.shift((0.0, 0.0, 0.08), OPEN)

    def _push(self, poses: Poses, hand: Hand) -> Iterator[Action]:
        """Move the hand the way that is left to the body, until that is within 1 cm of where it should go."""
        for _ in range(self.max_steps):
            left = self._left(poses)
            distance = np.linalg.norm(left)
            if distance < 0.01:
                return
            hand.turn(float(np.arctan2(left[1], left[0])), self.pitch)
            target = hand.position + left * (LEAD / distance)
            target[2] = poses.position(self.goal)[2] + self.place[2]
            yield hand.toward(target, OPEN)

    def _left(self, poses: Poses) -> Vector:
        """Return the way that is left to the body, float64 [3], m; it is horizontal."""
        left = poses.position(self.goal) + self.place - poses.position(self.body)
        return left * [1.0, 1.0, 0.0]


@dataclass(frozen=True, kw_only=True)
class TurnKnob:
    """Close the fingers on ``knob`` and turn the wrist."""

    knob: str

    def __call__(self, poses: Poses) -> Iterator[Action]:
        """Yield the actions of one attempt."""
        hand = Hand(poses)

        def above(height: float) -> Vector:
            return poses.position(self.knob) + [0.0, 0.0, height]

        yield from hand.reach(lambda: above(0.08), OPEN, tolerance=0.015)
        yield from hand.reach(lambda: above(0.01), OPEN, max_steps=20)
        yield from hand.hold(CLOSED, 5)
        for _ in range(TURN_STEPS):
            yield np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.0, CLOSED])
