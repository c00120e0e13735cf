"""What is pushed or pulled arrives, in a world where the hand takes along what stands in its way or what it holds."""

from math import pi

import numpy as np

from pi0.ript.demos.experts.motion import (
    CLOSED,
    DOWN,
    EEF_BODY,
    OPEN,
    Action,
    about,
    inverse,
    product,
    rotation_vector,
)
from pi0.ript.demos.experts.touch import Pull, Push

METERS, RADIANS = 0.015, 0.2  # that an arm makes of an action of 1 in one control step
RADIUS, RIM = 0.06, 0.02  # m, of the plate
HANDLE = (0.0, 0.09, 0.11)  # of the drawer


class Table:
    """A hand that does exactly what it is told, and a plate that cannot roll off its two fingers."""

    def __init__(self) -> None:
        self.hand, self.turned = np.array([-0.2, 0.0, 0.3]), DOWN
        self.plate = np.array([0.05, -0.02, 0.0])

    def position(self, body: str) -> np.ndarray:
        return {EEF_BODY: self.hand, "plate": self.plate, "table": np.zeros(3)}[body]

    def orientation(self, body: str) -> np.ndarray:
        assert body == EEF_BODY
        return self.turned

    def execute(self, action: Action) -> None:
        step = METERS * action[:3]
        self.hand = self.hand + step
        for axis in range(3):
            self.turned = product(about(axis, RADIANS * action[3 + axis]), self.turned)
        away = (self.plate - self.hand) * [1, 1, 0]
        if self.hand[2] < RIM and np.linalg.norm(away) < RADIUS and step @ away > 0:
            self.plate = self.plate + step * [1, 1, 0]


def test_a_plate_is_pushed_to_its_place_by_fingers_that_stand_across_the_way():
    table = Table()
    push = Push(
        body="plate", goal="table", place=(-0.02, 0.2, 0.01), behind=0.08, approach=(0.0, 0.0, 0.2)
    )

    for action in push(table):
        assert action[6] == OPEN
        table.execute(action)

    np.testing.assert_allclose(table.plate[:2], [-0.02, 0.2], atol=0.011)
    assert table.hand[2] > 0.05  # lifted off again
    # the way was almost along +y: about a quarter turn
    turned = rotation_vector(product(table.turned, inverse(DOWN)))
    assert abs(turned[2] - pi / 2) < 0.3


def test_a_push_that_moves_nothing_is_given_up():
    table = Table()
    push = Push(body="plate", goal="table", place=(0.0, 0.2, 0.1), behind=0.08, max_steps=7)

    num_steps = 0
    for action in push(table):
        table.execute(action)
        num_steps += 1

    assert num_steps < 100  # two waypoints, 7 steps of pushing, and up again
    np.testing.assert_array_equal(table.plate, [0.05, -0.02, 0.0])


class Cabinet(Table):
    """A drawer that comes along with a hand that has closed on its handle for ten steps."""

    def __init__(self) -> None:
        super().__init__()
        self.drawer, self.num_closed = np.zeros(3), 0

    def position(self, body: str) -> np.ndarray:
        return self.hand if body == EEF_BODY else self.drawer

    def execute(self, action: Action) -> None:
        is_there = np.linalg.norm(self.drawer + HANDLE - self.hand) < 0.02
        self.num_closed = self.num_closed + 1 if is_there and action[6] == CLOSED else 0
        super().execute(action)
        if self.num_closed > 10:
            self.drawer = self.drawer + METERS * action[:3] * [0, 1, 0]


def test_a_drawer_is_pulled_by_its_handle_and_let_go():
    cabinet = Cabinet()
    pull = Pull(
        body="drawer",
        handle=HANDLE,
        way=(0.0, 0.15, 0.0),
        pitch=-1.5,
        approach=((0.0, 0.15, 0.15), (0.0, 0.1, 0.05)),
    )

    gripper = CLOSED
    for action in pull(cabinet):
        cabinet.execute(action)
        gripper = action[6]

    np.testing.assert_allclose(cabinet.drawer, [0, 0.15, 0], atol=0.011)
    assert gripper == OPEN
    assert cabinet.hand[1] > 0.15 + HANDLE[1] + 0.03  # stepped back
