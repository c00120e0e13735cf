"""Pictures of a simulation in two steps: ``look`` notes what there is to see, ``render`` draws it.

Looking costs microseconds and drawing tens of milliseconds, so every control step can be looked at
when LIBERO would have taken its picture, and only the last look of a command is drawn.
"""

# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# (mujoco's extension module and robosuite come without types.)

import atexit

import mujoco
import numpy as np
from numpy.typing import NDArray
from robosuite.utils.binding_utils import GLContext

from pi0.records import ObservationSpec

MAX_GEOMS = 1000  # robosuite's own limit; a higher one could draw what LIBERO leaves out


def probe_rendering() -> None:
    """Raise ``ImportError`` or ``RuntimeError`` if no GL context can be created here."""
    # Without it a context that cannot be created complains of a missing attribute when it is freed.
    GLContext._context = None  # noqa: SLF001
    context = GLContext(max_width=8, max_height=8, device_id=-1)
    context.make_current()
    context.free()


class Renderer:
    """One GL context for one model, with one scene per camera."""

    def __init__(self, model: mujoco.MjModel, spec: ObservationSpec) -> None:
        """Create the context; ``model.vis`` is adapted to the picture size and quality."""
        self._model = model
        self._spec = spec
        self._cameras = [_camera(model, name) for name in spec.cameras]
        self._view = mujoco.MjrRect(0, 0, spec.width, spec.height)
        model.vis.global_.offwidth = spec.width
        model.vis.global_.offheight = spec.height
        if spec.quality == "fast":
            model.vis.quality.offsamples = 0  # only read when the context is created
        self._gl = GLContext(max_width=spec.width, max_height=spec.height, device_id=-1)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scenes = [mujoco.MjvScene(model, maxgeom=MAX_GEOMS) for _ in spec.cameras]
        if spec.quality == "fast":
            for scene in self._scenes:
                scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self._options = mujoco.MjvOption()
        self._options.geomgroup[0] = 0  # collision shapes
        self._options.geomgroup[1] = 1  # visual shapes
        self._perturbation = mujoco.MjvPerturb()
        self._is_open = True
        # A context that outlives the GL library's own exit handler would raise there.
        atexit.register(self.close)

    def look(self, data: mujoco.MjData) -> None:
        """Note what every camera sees in ``data`` now."""
        everything = int(mujoco.mjtCatBit.mjCAT_ALL)
        for camera, scene in zip(self._cameras, self._scenes, strict=True):
            mujoco.mjv_updateScene(
                self._model, data, self._options, self._perturbation, camera, everything, scene
            )

    def render(self) -> NDArray[np.uint8]:
        """Draw the last look, uint8 [N, height, width, 3], upside-down as LIBERO gives it."""
        spec = self._spec
        images = np.empty((len(self._scenes), spec.height, spec.width, 3), dtype=np.uint8)
        self._gl.make_current()
        for scene, image in zip(self._scenes, images, strict=True):
            mujoco.mjr_render(self._view, scene, self._context)
            mujoco.mjr_readPixels(image, None, self._view, self._context)
        return images

    def close(self) -> None:
        """Free the context; safe to call twice."""
        if self._is_open:
            self._is_open = False
            atexit.unregister(self.close)
            self._gl.make_current()
            self._context.free()
            self._gl.free()


def _camera(model: mujoco.MjModel, name: str) -> mujoco.MjvCamera:
    camera_id = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name)
    if camera_id < 0:
        names = ", ".join(model.camera(i).name for i in range(model.ncam))
        raise ValueError(f"the scene has no camera {name!r}; allowed: {names}")
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
    camera.fixedcamid = camera_id
    return camera
