"""The hand follows waypoints and turns its fingers, on a body that does what it is told at once."""

from itertools import islice
from math import pi

import numpy as np
import pytest

from pi0.ript.demos.experts.motion import (
    CLOSED,
    DOWN,
    EEF_BODY,
    OPEN,
    Action,
    Hand,
    about,
    inverse,
    product,
    rotation_vector,
)

METERS, RADIANS = 0.05, 0.5  # of an action of 1


class Table:
    """A hand above a table with an item on it; what the hand is told it does exactly."""

    def __init__(self) -> None:
        self.hand, self.turned = np.array([0.0, 0.0, 0.3]), DOWN
        self.item = np.array([0.1, 0.0, 0.0])

    def position(self, body: str) -> np.ndarray:
        return self.hand if body == EEF_BODY else self.item

    def orientation(self, body: str) -> np.ndarray:
        assert body == EEF_BODY
        return self.turned

    def execute(self, action: Action) -> None:
        self.hand = self.hand + METERS * action[:3]
        angle = RADIANS * np.linalg.norm(action[3:6])
        if angle:
            axis = action[3:6] / np.linalg.norm(action[3:6])
            turn = np.array([np.cos(angle / 2), *(np.sin(angle / 2) * axis)])
            self.turned = product(turn, self.turned)


def test_rotations_compose_and_come_back():
    quarter = about(2, pi / 2)

    # twice a quarter about z is half a turn: (cos 90, 0, 0, sin 90 degrees)
    np.testing.assert_allclose(product(quarter, quarter), [0, 0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(product(quarter, inverse(quarter)), [1, 0, 0, 0], atol=1e-12)


@pytest.mark.parametrize("angle", [-1.5, 0.0, 1e-7, 0.3, 3.0])
def test_a_rotation_vector_is_axis_times_angle_whatever_the_sign_of_the_quaternion(angle: float):
    for quaternion in (about(1, angle), -about(1, angle)):
        np.testing.assert_allclose(rotation_vector(quaternion), [0, angle, 0], atol=1e-9)


def test_a_waypoint_is_reached_while_it_moves():
    table = Table()
    hand = Hand(table)

    for action in hand.reach(lambda: table.item, OPEN):
        assert np.abs(action).max() <= 1
        assert action[6] == OPEN
        table.execute(action)
        table.item = table.item + [0.001, 0, 0]

    assert np.linalg.norm(table.hand - table.item) < 0.012


def test_a_waypoint_out_of_reach_is_given_up():
    table = Table()

    assert len(list(Hand(table).reach(lambda: table.item, CLOSED, max_steps=7))) == 7


def test_fingers_are_turned_on_the_way_and_a_waypoint_is_not_reached_before():
    table = Table()
    hand = Hand(table)
    hand.turn(pi / 2)

    for action in hand.reach(lambda: np.array([0.0, 0.0, 0.3]), OPEN):
        table.execute(action)

    left = rotation_vector(product(product(about(2, pi / 2), DOWN), inverse(table.turned)))
    assert np.linalg.norm(left) < 0.15


def test_the_hand_goes_back_to_where_it_was_pushed_from():
    table = Table()
    actions = Hand(table).hold(OPEN, 20)

    assert np.allclose(next(actions)[:6], 0)
    table.hand = table.hand + [0.01, 0, 0]
    table.turned = product(about(2, 0.1), table.turned)
    # 1 cm back at 50 per m, 0.1 rad back at 4 per rad
    np.testing.assert_allclose(next(actions)[:6], [-0.5, 0, 0, 0, 0, -0.4], atol=1e-9)
    assert len(list(islice(actions, 100))) == 18
