"""Draw one real LIBERO frame into a file, as a program of its own.

A process of its own, because a driver that does not work may end the process that tries it.
"""

# pyright: reportAttributeAccessIssue=false
# (PyOpenGL builds its modules at run time.)

import ctypes
import json
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
from PIL import Image

from pi0.records import ObservationSpec
from pi0.ript.env.libero.headless import require_rendering
from pi0.ript.env.suites import make_initial_state

SUITE, TASK_ID, STATE = "libero_goal", 7, 0
CAMERAS = ("agentview", "robot0_eye_in_hand")
SIZE = 256
NUM_STEPS_WAIT = 10  # as rollouts begin, so that the file shows what a policy is given
CUDA_DEVICE = 0x323A  # EGL_CUDA_DEVICE_NV


def draw_frame(path: Path) -> dict[str, object]:
    """Draw an initial state with both cameras, upright and side by side, and return what drew it.

    Raises:
        RenderingError: Headless rendering does not work; says what to install.
    """
    require_rendering()
    from OpenGL import GL  # noqa: PLC0415 - PyOpenGL may be loaded only where rendering works

    from pi0.ript.env.libero.scene import Scene  # noqa: PLC0415 - as above

    spec = ObservationSpec(cameras=CAMERAS, height=SIZE, width=SIZE)
    with closing(Scene(SUITE, TASK_ID, spec, num_slots=1, num_steps_wait=NUM_STEPS_WAIT)) as scene:
        observation = scene.restore(0, make_initial_state(SUITE, TASK_ID, STATE, fixture_seed=0))
        renderer = GL.glGetString(GL.GL_RENDERER)
    frame = np.concatenate([image[::-1] for image in observation.images], axis=1)
    Image.fromarray(frame).save(path)
    return {
        "renderer": "unknown" if renderer is None else renderer.decode(),
        "colors": len(np.unique(frame.reshape(-1, 3), axis=0)),
        "cuda_devices": cuda_devices(),
    }


def cuda_devices() -> list[int | None]:
    """Return for every EGL device, in EGL's order, which CUDA device it is; None for software."""
    with suppress(ImportError, AttributeError):  # OSMesa has no devices
        from mujoco.egl import egl_ext as egl  # noqa: PLC0415 - only where EGL is installed

        address = egl.eglGetProcAddress("eglQueryDeviceAttribEXT")
        devices = egl.eglQueryDevicesEXT()
        return [None if address is None else _cuda_index(address, each) for each in devices]
    return []


def _cuda_index(address: int, device: object) -> int | None:
    signature = ctypes.CFUNCTYPE(
        ctypes.c_uint, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_ssize_t)
    )
    value = ctypes.c_ssize_t()
    is_known = signature(address)(device, CUDA_DEVICE, ctypes.byref(value))
    return value.value if is_known else None


def main(argv: Sequence[str]) -> None:
    """Draw into the file that is named and print what drew it as JSON."""
    sys.stdout.write(json.dumps(draw_frame(Path(argv[0]))) + "\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(f"error: {error}")
