"""What one image costs with MuJoCo's own calls, part by part."""

# pyright: reportAttributeAccessIssue=false

import statistics
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray
from robosuite.utils.binding_utils import GLContext

from benchmarks.parts.measure import seconds
from pi0.records import ObservationSpec
from pi0.ript.env.libero.renderer import MAX_GEOMS


class PlainRenderer:
    """One ``mjr_render`` and one ``mjr_readPixels`` per camera, and nothing around them."""

    def __init__(self, model: Any, spec: ObservationSpec) -> None:
        """Create a GL context; ``model.vis`` is adapted to the image size and quality."""
        self._model, self._spec = model, spec
        samples = model.vis.quality.offsamples
        model.vis.global_.offwidth, model.vis.global_.offheight = spec.width, spec.height
        model.vis.quality.offsamples = samples if spec.quality == "exact" else 0
        self._gl = GLContext(max_width=spec.width, max_height=spec.height, device_id=-1)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
        model.vis.quality.offsamples = samples
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=MAX_GEOMS)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = spec.quality == "exact"
        self._options = mujoco.MjvOption()
        self._options.geomgroup[0], self._options.geomgroup[1] = 0, 1
        self._view = mujoco.MjrRect(0, 0, spec.width, spec.height)
        self._cameras = [_camera(model, name) for name in spec.cameras]

    def render(self, data: Any) -> NDArray[np.uint8]:
        """Draw all cameras, uint8 [N, height, width, 3]."""
        self._gl.make_current()
        shape = (len(self._cameras), self._spec.height, self._spec.width, 3)
        images = np.empty(shape, dtype=np.uint8)
        for camera, image in zip(self._cameras, images, strict=True):
            self._update(data, camera)
            self._draw()
            self._read(image)
        return images

    def parts(self, data: Any) -> dict[str, float]:
        """Return the seconds of the parts of the first camera's image.

        Software rendering draws while the commands come in and finishes when pixels are read.
        """
        self._gl.make_current()
        image = np.empty((self._spec.height, self._spec.width, 3), dtype=np.uint8)
        return {
            "update_s": seconds(lambda: self._update(data, self._cameras[0])),
            "draw_s": seconds(self._draw),
            "read_s": seconds(lambda: self._read(image)),
        }

    def close(self) -> None:
        """Free the context."""
        self._gl.make_current()
        self._context.free()
        self._gl.free()

    def _update(self, data: Any, camera: Any) -> None:
        everything = int(mujoco.mjtCatBit.mjCAT_ALL)
        mujoco.mjv_updateScene(
            self._model, data, self._options, mujoco.MjvPerturb(), camera, everything, self._scene
        )

    def _draw(self) -> None:
        mujoco.mjr_render(self._view, self._scene, self._context)

    def _read(self, image: NDArray[np.uint8]) -> None:
        mujoco.mjr_readPixels(image, None, self._view, self._context)


def _camera(model: Any, name: str) -> Any:
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
    camera.fixedcamid = model.camera(name).id
    return camera


def measure_parts(
    model: Any, data: Any, specs: Sequence[ObservationSpec], rounds: int
) -> dict[str, dict[str, float]]:
    """Return the median seconds of the parts of one image for every way of drawing."""
    found: dict[str, dict[str, float]] = {}
    for spec in specs:
        renderer = PlainRenderer(model, spec)
        renderer.parts(data)  # the first image compiles shaders
        samples = [renderer.parts(data) for _ in range(rounds)]
        renderer.close()
        name = f"{spec.cameras[0]} {spec.width} px {spec.quality}"
        found[name] = {part: statistics.median(s[part] for s in samples) for part in samples[0]}
    return found
