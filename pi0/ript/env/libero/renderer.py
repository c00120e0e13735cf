"""Images of a simulation in two steps: ``update_scene`` notes what to draw, ``render`` draws it.

Noting costs microseconds and drawing tens of milliseconds, so every control step can be noted when
LIBERO would have drawn its image, and only what was noted last in a request is drawn. Shapes that the
camera cannot see are left out, which changes no pixel.
"""

# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# (mujoco's extension module and robosuite come without types.)

# ruff: noqa: SLF001 - robosuite offers no public way to its gripper's joint indexes.

import atexit
import time
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray
from robosuite.utils.transform_utils import convert_quat

from pi0.records import Observation, ObservationSpec
from pi0.ript.env.libero.culling import Culling, Mirror, find_mirror
from pi0.ript.env.libero.shared_drawing import SharedDrawing
from pi0.ript.env.libero.slot import Slot

REFLECTION = int(mujoco.mjtRndFlag.mjRND_REFLECTION)
HIDDEN_GROUP = 5  # never drawn
MAX_GEOMS = 1000  # robosuite's own limit; a higher one could draw what LIBERO leaves out


class Renderer:
    """Draws one model, with one scene per camera."""

    def __init__(
        self, model: mujoco.MjModel, spec: ObservationSpec, drawing: SharedDrawing
    ) -> None:
        """Upload what ``drawing`` lacks; ``model.vis`` is adapted to the image size and quality."""
        self._model = model
        self._spec = spec
        self._cameras = [_camera(model, name) for name in spec.cameras]
        self._view = mujoco.MjrRect(0, 0, spec.width, spec.height)
        model.vis.global_.offwidth = spec.width
        model.vis.global_.offheight = spec.height
        if spec.quality == "fast":
            model.vis.quality.offsamples = 0  # only read when the context is created
        if not model.light_castshadow.any():
            model.vis.quality.shadowsize = 0  # as above; 67 MB that nothing would be drawn into
        self._drawing = drawing
        self._context = drawing.open(model)
        self._scenes = [mujoco.MjvScene(model, maxgeom=MAX_GEOMS) for _ in spec.cameras]
        self._options = mujoco.MjvOption()
        self._options.geomgroup[0] = 0  # collision shapes
        self._options.geomgroup[1] = 1  # visual shapes
        self._perturbation = mujoco.MjvPerturb()
        self._culling = Culling(model, spec.width / spec.height)
        # Beyond the limit LIBERO's images lack shapes; what is left out first decides which.
        self._can_cull = self._culling.is_possible and model.ngeom + model.nsite <= MAX_GEOMS
        self._groups = model.geom_group.copy()
        self._mirror = self._find_mirror()
        self._is_open = True
        # A context that outlives the GL library's own exit handler would raise there.
        atexit.register(self.close)

    def update_scene(self, data: mujoco.MjData, *, cull: bool) -> None:
        """Note what every camera sees in ``data`` now.

        Args:
            data: The simulation.
            cull: Leave out what cannot be seen. Pays only if this is what is drawn.
        """
        for camera, scene in zip(self._cameras, self._scenes, strict=True):
            if cull and self._can_cull:
                self._update_culled(data, camera, scene)
            else:
                self._update(data, camera, scene)
                scene.flags[REFLECTION] = self._spec.quality == "exact"

    def render(self) -> NDArray[np.uint8]:
        """Draw what was noted last, uint8 [N, height, width, 3], upside-down as LIBERO gives it."""
        spec = self._spec
        images = np.empty((len(self._scenes), spec.height, spec.width, 3), dtype=np.uint8)
        self._drawing.make_current()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        for scene, image in zip(self._scenes, images, strict=True):
            mujoco.mjr_render(self._view, scene, self._context)
            mujoco.mjr_readPixels(image, None, self._view, self._context)
        return images

    def _update_culled(
        self, data: mujoco.MjData, camera: mujoco.MjvCamera, scene: mujoco.MjvScene
    ) -> None:
        is_visible, is_mirror_visible = self._culling.visible(data, camera.fixedcamid, self._mirror)
        groups = self._model.geom_group
        groups[:] = np.where(is_visible, self._groups, HIDDEN_GROUP)
        self._update(data, camera, scene)
        groups[:] = self._groups
        scene.flags[REFLECTION] = is_mirror_visible

    def _update(
        self, data: mujoco.MjData, camera: mujoco.MjvCamera, scene: mujoco.MjvScene
    ) -> None:
        everything = int(mujoco.mjtCatBit.mjCAT_ALL)
        mujoco.mjv_updateScene(
            self._model, data, self._options, self._perturbation, camera, everything, scene
        )

    def _find_mirror(self) -> Mirror | None:
        if self._spec.quality == "fast":
            return None  # drawn without reflections
        data = mujoco.MjData(self._model)
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_camlight(self._model, data)
        self._update(data, self._cameras[0], self._scenes[0])
        return find_mirror(self._model, self._scenes[0])

    def close(self) -> None:
        """Free the context; safe to call twice."""
        if self._is_open:
            self._is_open = False
            atexit.unregister(self.close)
            self._drawing.close(self._context)


class Observer:
    """Observes the slots of a scene and draws what was observed last.

    Attributes:
        render_seconds: Time spent on images for policies.
        video_seconds: Time spent on images for videos only.
    """

    def __init__(self, env: Any, site_id: int, renderer: Renderer) -> None:
        """Read where the robot's hand is in a robosuite environment with one Panda.

        Args:
            env: The environment.
            site_id: The end effector's site.
            renderer: Draws its model.
        """
        self.render_seconds = 0.0
        self.video_seconds = 0.0
        self._site_id, self._renderer = site_id, renderer
        robot = env.robots[0]
        self._gripper_qpos = list(robot._ref_gripper_joint_pos_indexes)
        self._eef_body = env.sim.model.body_name2id(robot.robot_model.eef_name)

    def sample(self, slot: Slot, *, observe: bool, will_draw: bool) -> None:
        """Note what observables would sample now.

        Args:
            slot: An activated slot.
            observe: False notes nothing for an image.
            will_draw: Whether this is most likely what is drawn.
        """
        data = slot.data
        slot.proprio = np.concatenate(
            [
                data.site_xpos[self._site_id],
                convert_quat(data.xquat[self._eef_body], to="xyzw"),
                data.qpos[self._gripper_qpos],
            ]
        )
        if observe:
            self._renderer.update_scene(data, cull=will_draw)

    def draw(self, proprio: NDArray[np.float64]) -> Observation:
        """Return what was observed last, with the proprioception, float64 [9], that belongs to it."""
        started = time.perf_counter()
        images = self._renderer.render()
        self.render_seconds += time.perf_counter() - started
        return Observation(images=images, proprio=proprio)

    def video(self, slot: Slot, *, has_observed: bool) -> NDArray[np.uint8]:
        """Return the images of what this request observed last, uint8 [N, height, width, 3].

        Before it has observed anything, ``env.step`` shows the observation before it.
        """
        assert slot.observation is not None
        if not has_observed:
            return slot.observation.images
        started = time.perf_counter()
        images = self._renderer.render()
        self.video_seconds += time.perf_counter() - started
        return images


def _camera(model: mujoco.MjModel, name: str) -> mujoco.MjvCamera:
    camera_id = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name)
    if camera_id < 0:
        names = ", ".join(model.camera(i).name for i in range(model.ncam))
        raise ValueError(f"the scene has no camera {name!r}; allowed: {names}")
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
    camera.fixedcamid = camera_id
    return camera
