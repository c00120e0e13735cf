"""What a camera certainly cannot see: closed forms and one property."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pi0.ript.env.libero.culling import View, reflect

# A camera at the origin that looks along -z with a field of view of 90 degrees both ways.
VIEW = View(position=np.zeros(3), rotation=np.eye(3), tan_x=1.0, tan_y=1.0)
WINDOW = np.array([[1.0, 1.0, -2.0], [1.0, -1.0, -2.0], [-1.0, -1.0, -2.0], [-1.0, 1.0, -2.0]])


def sees_sphere(center: tuple[float, float, float], radius: float) -> bool:
    return bool(VIEW.sees_spheres(np.array([center]), np.array([radius]))[0])


def test_a_sphere_ahead_is_seen_and_one_behind_is_not() -> None:
    assert sees_sphere((0.0, 0.0, -1.0), 0.1)
    assert not sees_sphere((0.0, 0.0, 1.0), 0.1)


def test_a_sphere_beside_the_image_is_seen_as_soon_as_it_reaches_into_it() -> None:
    # The right side of the image is the plane x = -z. From (3, 0, -1) it is 2 / sqrt(2) away.
    assert not sees_sphere((3.0, 0.0, -1.0), 1.40)
    assert sees_sphere((3.0, 0.0, -1.0), 1.42)


def test_a_sphere_around_the_camera_is_seen() -> None:
    assert sees_sphere((0.0, 0.0, 0.5), 0.6)


def test_a_polygon_is_unseen_only_if_it_lies_beyond_one_side() -> None:
    assert VIEW.sees_polygon(WINDOW)
    assert not VIEW.sees_polygon(WINDOW + [5.0, 0.0, 0.0])
    # Larger than the image: no corner is inside, but it fills the view.
    assert VIEW.sees_polygon(WINDOW * [50.0, 50.0, 1.0])


def test_a_window_shows_what_lies_behind_it_and_not_what_lies_beside_it() -> None:
    # At twice the distance of the window its outline has twice the size: 2 to each side.
    centers = np.array([[1.9, 0.0, -4.0], [2.5, 0.0, -4.0], [2.5, 0.0, -4.0]])
    assert VIEW.sees_through(WINDOW, centers, np.array([0.1, 0.1, 0.6])).tolist() == [
        True,
        False,  # 0.5 beside the outline, whose side slopes by 1:2: 0.5 * 2 / sqrt(5) = 0.447 away
        True,
    ]


def test_a_window_seen_edge_on_hides_nothing() -> None:
    flat = np.array([[1.0, 0.0, -2.0], [1.0, 0.0, -3.0], [-1.0, 0.0, -3.0], [-1.0, 0.0, -2.0]])
    assert VIEW.sees_through(flat * [0.0, 1.0, 1.0], np.array([[9.0, 9.0, 9.0]]), np.zeros(1)).all()


def test_a_mirror_image_lies_as_far_behind_the_plane_as_its_object_before_it() -> None:
    image = reflect(
        np.array([[1.0, 2.0, 5.0]]), np.array([0.0, 0.0, 3.0]), np.array([0.0, 0.0, 1.0])
    )
    assert image.tolist() == [[1.0, 2.0, 1.0]]


coordinate = st.floats(-5.0, 5.0)


@given(st.tuples(coordinate, coordinate, coordinate), st.floats(0.0, 2.0), st.integers(0, 2**16))
def test_no_sphere_with_a_visible_point_is_left_out(
    center: tuple[float, float, float], radius: float, seed: int
) -> None:
    direction = np.random.default_rng(seed).normal(size=3)
    x, y, z = np.array(center) + radius * direction / np.linalg.norm(direction)
    if z < 0 and abs(x) <= -z and abs(y) <= -z:
        assert sees_sphere(center, radius)
