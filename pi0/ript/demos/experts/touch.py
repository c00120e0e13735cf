"""Skills that lift nothing: pull a drawer open, push something over the table, turn a knob."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from pi0.ript.demos.experts.motion import CLOSED, OPEN, Action, Hand, Offset, Poses, Vector

TURN_STEPS = 45
# How far ahead of itself the hand aims, m. A push is slowed down by the plate that it takes along.
PULL_LEAD, PUSH_LEAD = 0.02, 0.04


@dataclass(frozen=True, kw_only=True)
class Pull:
    """Take ``body`` by its handle between the fingers and pull it, then let go of it.

    Attributes:
        body: What is pulled; a drawer's own body moves with the drawer.
        handle: Offset from the body's origin where the fingertips close.
        way: How far the body is taken, from where it stood at first.
        pitch: How far the fingers are tilted from pointing down and closing along y, rad.
        approach: Offsets from the handle that the hand comes by.
        closing_steps: Control steps the fingers get to close.
        away: Where the hand goes afterwards, from where it let go.
        max_steps: Control steps of the pull.
    """

    body: str
    handle: Offset
    way: Offset
    pitch: float
    approach: tuple[Offset, ...]
    closing_steps: int = 14
    away: Offset = (0.0, 0.06, 0.06)
    max_steps: int = 60

    def __call__(self, poses: Poses) -> Iterator[Action]:
        """Yield the actions of one attempt."""
        hand, goal = Hand(poses), poses.position(self.body) + self.way
        hand.turn(0.0, self.pitch)
        yield from self._take(poses, hand)
        yield from self._pull(poses, hand, goal)
        yield from hand.hold(OPEN, 6)
        yield from hand.shift(self.away, OPEN)

    def _take(self, poses: Poses, hand: Hand) -> Iterator[Action]:
        for offset in self.approach:
            yield from hand.reach(self._at_handle(poses, offset), OPEN, tolerance=0.02)
        yield from hand.reach(self._at_handle(poses), OPEN, max_steps=25)
        yield from hand.hold(CLOSED, self.closing_steps)

    def _at_handle(self, poses: Poses, offset: Offset = (0.0, 0.0, 0.0)) -> Callable[[], Vector]:
        place = np.array(self.handle) + offset
        return lambda: poses.position(self.body) + place

    def _pull(self, poses: Poses, hand: Hand, goal: Vector) -> Iterator[Action]:
        """Move the hand the way that is left to the body, until that is within 1 cm of where it should go."""
        for _ in range(self.max_steps):
            left = goal - poses.position(self.body)
            distance = np.linalg.norm(left)
            if distance < 0.01:
                return
            yield hand.toward(hand.position + left * (PULL_LEAD / distance), CLOSED)


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
            target = hand.position + left * (PUSH_LEAD / distance)
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
