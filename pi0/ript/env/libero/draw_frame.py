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
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.libero.headless import read_driver, require_rendering
from pi0.ript.env.libero.references import (
    NUM_STEPS_WAIT,
    SITUATIONS,
    SPEC,
    Deviation,
    deviation,
    key,
)

NUM_STEPS = 30  # compared with LIBERO's own environment
CUDA_DEVICE = 0x323A  # EGL_CUDA_DEVICE_NV


def draw_frame(path: Path) -> dict[str, object]:
    """Draw the reference situations, the first one into a file, upright and with both cameras side by side.

    Returns:
        What drew it, how far each situation is from its reference, and what of the engine differs from LIBERO.

    Raises:
        RenderingError: Headless rendering does not work; says what to install.
    """
    require_rendering()
    drawn = [_draw(situation) for situation in SITUATIONS]
    frame = np.concatenate([image[::-1] for image in drawn[0].images], axis=1)
    Image.fromarray(frame).save(path)
    return {
        "renderer": drawn[0].renderer,
        "colors": len(np.unique(frame.reshape(-1, 3), axis=0)),
        "cuda_devices": cuda_devices(),
        "deviations": {
            key(each): asdict(found.deviation)
            for each, found in zip(SITUATIONS, drawn, strict=True)
        },
        "is_reference": all(found.deviation.is_within_bounds for found in drawn),
        "difference": next((found.difference for found in drawn if found.difference), ""),
    }


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    images: NDArray[np.uint8]
    renderer: str
    deviation: Deviation
    difference: str


def _draw(situation: tuple[str, int, int, int]) -> _Drawn:
    from pi0.ript.env.libero.scene import Scene  # noqa: PLC0415 - only where rendering works
    from pi0.ript.env.libero.self_check import find_difference  # noqa: PLC0415 - as above

    suite, task_id, index, fixture_seed = situation
    with closing(Scene(suite, task_id, SPEC, num_slots=1, num_steps_wait=NUM_STEPS_WAIT)) as scene:
        observation = scene.restore(0, make_initial_state(suite, task_id, index, fixture_seed))
        driver = read_driver()
        return _Drawn(
            images=observation.images,
            renderer=f"{driver['GL renderer']}, {driver['GL version']}",
            deviation=deviation(situation, observation.images, scene.physics_state(0)),
            difference=find_difference(scene, NUM_STEPS),
        )


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
