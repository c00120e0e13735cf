"""How an expert moves the hand: short closed loops on poses of the simulator, which no policy may read.

Actions are LIBERO's: position deltas in units of 5 cm, rotation deltas in units of 0.5 rad, both in the world's
frame, gripper -1 open and +1 closed.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Quaternion = NDArray[np.float64]  # w, x, y, z
Action = NDArray[np.float64]
Offset = tuple[float, float, float]  # m, in the world's frame

OPEN, CLOSED = -1.0, 1.0
GAIN = 50.0  # 1 / m: full speed beyond 2 cm from the waypoint.
TURN_GAIN = 4.0  # 1 / rad: full speed beyond a quarter of a radian.
ANGLE_TOLERANCE = 0.15  # rad
EEF_BODY = "gripper0_eef"
# Of the hand where its fingers point down and close along y.
DOWN: Quaternion = np.sqrt([0.0, 0.5, 0.5, 0.0])


class Poses(Protocol):
    """Privileged access to the simulator."""

    def position(self, body: str) -> Vector:
        """Return the position of a body in the world, float64 [3], m."""
        ...

    def orientation(self, body: str) -> Quaternion:
        """Return the orientation of a body in the world, unit quaternion, float64 [4], w first."""
        ...


Expert = Callable[[Poses], Iterator[Action]]
"""A generator of actions, resumed after each was executed, so that it always acts on the latest poses."""


class Hand:
    """The gripper during one attempt: it goes to waypoints and keeps its fingers turned as it was last told.

    Args:
        poses: Of the simulator.
    """

    def __init__(self, poses: Poses) -> None:
        self._poses = poses
        self._goal = DOWN

    @property
    def position(self) -> Vector:
        """Return where it is, float64 [3], m."""
        return self._poses.position(EEF_BODY)

    def turn(self, yaw: float, pitch: float = 0.0) -> None:
        """Choose how the fingers are turned from now on, counted from pointing down and closing along y.

        Args:
            yaw: About the vertical, rad, counterclockwise from above.
            pitch: Then about the world's x axis, rad.
        """
        self._goal = product(product(about(0, pitch), about(2, yaw)), DOWN)

    def reach(
        self,
        target: Callable[[], Vector],
        gripper: float,
        *,
        tolerance: float = 0.01,
        max_steps: int = 60,
    ) -> Iterator[Action]:
        """Go to a waypoint that may itself move; give up after ``max_steps``.

        Args:
            target: Returns the waypoint, float64 [3], m.
            gripper: ``OPEN`` or ``CLOSED``.
            tolerance: Distance at which it is reached, m.
            max_steps: Control steps.
        """
        for _ in range(max_steps):
            goal = target()
            is_near = np.linalg.norm(goal - self.position) < tolerance
            if is_near and np.linalg.norm(self._turning()) < ANGLE_TOLERANCE:
                return
            yield self.toward(goal, gripper)

    def shift(self, offset: Offset, gripper: float, *, tolerance: float = 0.02) -> Iterator[Action]:
        """Go to a point at an offset from where the hand is when the shift begins, m."""
        goal = self.position + offset
        yield from self.reach(lambda: goal, gripper, tolerance=tolerance)

    def hold(self, gripper: float, num_steps: int) -> Iterator[Action]:
        """Stay, while the fingers open or close."""
        here = self.position
        for _ in range(num_steps):
            yield self.toward(here, gripper)

    def toward(self, target: Vector, gripper: float) -> Action:
        """Return the action, float64 [7], that goes towards a point, float64 [3] (m), and turns the fingers."""
        moving = np.clip(GAIN * (target - self.position), -1, 1)
        return np.array([*moving, *np.clip(TURN_GAIN * self._turning(), -1, 1), gripper])

    def _turning(self) -> Vector:
        """Return the rotation that is left, as axis times angle, float64 [3], rad."""
        return rotation_vector(product(self._goal, inverse(self._poses.orientation(EEF_BODY))))


def about(axis: int, angle: float) -> Quaternion:
    """Return the rotation about a coordinate axis (0, 1, 2) by an angle, rad."""
    result = np.array([np.cos(angle / 2), 0.0, 0.0, 0.0])
    result[1 + axis] = np.sin(angle / 2)
    return result


def product(second: Quaternion, first: Quaternion) -> Quaternion:
    """Return the rotation that does ``first``, then ``second`` (Hamilton's product)."""
    w, v = second[0], second[1:]
    return np.array(
        [w * first[0] - v @ first[1:], *(w * first[1:] + first[0] * v + np.cross(v, first[1:]))]
    )


def inverse(rotation: Quaternion) -> Quaternion:
    """Return the rotation back."""
    return rotation * [1.0, -1.0, -1.0, -1.0]


def rotation_vector(rotation: Quaternion) -> Vector:
    """Return a rotation as axis times angle, float64 [3], of length in [0, pi] (rad).

    The imaginary part of q is the axis times sin(angle / 2), its real part cos(angle / 2); q and -q are the same rotation.
    """
    w, v = (rotation[0], rotation[1:]) if rotation[0] >= 0 else (-rotation[0], -rotation[1:])
    sine = float(np.linalg.norm(v))
    return v * (2.0 * np.arctan2(sine, w) / sine) if sine > 1e-9 else 2.0 * v
