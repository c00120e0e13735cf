"""What a camera cannot see, so that it need not be drawn. Conservative: no pixel depends on it.

Software rendering spends its time on triangles, visible or not, and draws the whole scene a second
time for a mirror. Bounding spheres show which shapes lie outside the image.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's extension module comes without types.)

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

OPAQUE = 0.995  # MuJoCo draws shapes with less alpha as transparent
MARGIN_M = 1e-3  # float32 poses, single-precision projection


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A camera at an instant.

    Attributes:
        position: Float64 [3] (m).
        rotation: Float64 [3, 3]; columns are right, up and backward.
        tan_x: Tangent of half the horizontal field of view.
        tan_y: Tangent of half the vertical one.
    """

    position: Array
    rotation: Array
    tan_x: float
    tan_y: float

    def distances(self, points: Array) -> Array:
        """Return how far points lie outside each side of the view (m), float64 [n, 5].

        The sides are right, left, top, bottom and behind; negative means inside.
        """
        right, up, back = ((points - self.position) @ self.rotation).T
        norm_x, norm_y = np.hypot(1.0, self.tan_x), np.hypot(1.0, self.tan_y)
        return np.stack(
            [
                (right + self.tan_x * back) / norm_x,
                (-right + self.tan_x * back) / norm_x,
                (up + self.tan_y * back) / norm_y,
                (-up + self.tan_y * back) / norm_y,
                back,
            ],
            axis=1,
        )

    def sees_spheres(self, centers: Array, radii: Array) -> BoolArray:
        """Return which spheres may be seen, bool [n]; False is certain."""
        is_near = self.distances(centers) <= radii[:, None] + MARGIN_M
        return np.all(is_near, axis=1)

    def sees_through(self, corners: Array, centers: Array, radii: Array) -> BoolArray:
        """Return which spheres may be seen through a flat convex window, bool [n]; False is certain.

        Args:
            corners: Float64 [m, 3], the window's, in order.
            centers: Float64 [n, 3].
            radii: Float64 [n].
        """
        edges = corners - self.position
        normals = np.cross(edges, np.roll(edges, -1, axis=0))
        lengths = np.linalg.norm(normals, axis=1, keepdims=True)
        if (lengths < MARGIN_M**2).any():  # the camera looks along the window or stands on its edge
            return np.ones(len(centers), dtype=np.bool_)
        normals /= lengths
        normals *= -np.sign(normals @ edges.mean(axis=0))[:, None]  # outward
        outside = (centers - self.position) @ normals.T
        return (outside <= radii[:, None] + MARGIN_M).all(axis=1)

    def sees_polygon(self, corners: Array) -> bool:
        """Return whether a flat polygon, float64 [n, 3], may be seen; False is certain."""
        return not (self.distances(corners) > MARGIN_M).all(axis=0).any()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """The upper face of the one shape that MuJoCo draws with reflections.

    Attributes:
        geom: Its number.
        half_size: Float64 [3] of the box (m).
    """

    geom: int
    half_size: Array

    def face(self, data: mujoco.MjData) -> tuple[Array, Array]:
        """Return the corners, float64 [4, 3], and the normal, float64 [3]."""
        rotation = data.geom_xmat[self.geom].reshape(3, 3)
        signs = np.array([[1, 1, 1], [1, -1, 1], [-1, -1, 1], [-1, 1, 1]])
        corners = data.geom_xpos[self.geom] + (signs * self.half_size) @ rotation.T
        return corners, rotation[:, 2]


def reflect(points: Array, on_plane: Array, normal: Array) -> Array:
    """Return the mirror images of points, float64 [n, 3]."""
    return points - 2.0 * ((points - on_plane) @ normal)[:, None] * normal


def find_mirror(model: mujoco.MjModel, scene: mujoco.MjvScene) -> Mirror | None:
    """Return the first opaque reflective box of a scene that shows everything, as MuJoCo picks it.

    Raises:
        ValueError: It is an endless plane, which no LIBERO scene has.
    """
    planes = (int(mujoco.mjtGeom.mjGEOM_PLANE), int(mujoco.mjtGeom.mjGEOM_BOX))
    for index in range(scene.ngeom):
        shape = scene.geoms[index]
        if shape.type in planes and shape.rgba[3] >= OPAQUE and shape.reflectance > 0:
            if shape.type == planes[0]:
                raise ValueError("a reflective plane is not supported")
            return Mirror(geom=shape.objid, half_size=model.geom_size[shape.objid].copy())
    return None


class Culling:
    """Decides for each image which shapes to leave out and whether the mirror matters."""

    def __init__(self, model: mujoco.MjModel, aspect: float) -> None:
        """Prepare for images of ``aspect`` = width / height."""
        self._model, self._aspect = model, aspect
        self._radii = model.geom_rbound.copy()
        self._is_endless = self._radii == 0  # planes
        # A shape outside the image may cast a shadow into it.
        self.is_possible = not model.light_castshadow.any() and not model.cam_sensorsize.any()

    def view(self, data: mujoco.MjData, camera_id: int) -> View:
        """Return a camera as it is in ``data``."""
        tan_y = float(np.tan(np.deg2rad(self._model.cam_fovy[camera_id]) / 2))
        return View(
            position=data.cam_xpos[camera_id],
            rotation=data.cam_xmat[camera_id].reshape(3, 3),
            tan_x=tan_y * self._aspect,
            tan_y=tan_y,
        )

    def visible(
        self, data: mujoco.MjData, camera_id: int, mirror: Mirror | None
    ) -> tuple[BoolArray, bool]:
        """Return which geoms may be seen, bool [ngeom], and whether the mirror may be."""
        view = self.view(data, camera_id)
        visible = view.sees_spheres(data.geom_xpos, self._radii) | self._is_endless
        if mirror is None:
            return visible, False
        corners, normal = mirror.face(data)
        is_mirror_visible = view.sees_polygon(corners)
        if is_mirror_visible:
            reflections = reflect(data.geom_xpos, corners[0], normal)
            visible |= view.sees_through(corners, reflections, self._radii)
        # Without the mirror in the scene MuJoCo would make a mirror of another shape.
        visible[mirror.geom] = True
        return visible, is_mirror_visible
