"""Checks of requests, made before anything is sent to a simulator."""

import numpy as np
from numpy.typing import NDArray

from pi0.records import ObservationSpec

ACTION_DIM = 7
# What LIBERO's scenes have, the last only some of them.
CAMERAS = ("agentview", "robot0_eye_in_hand", "frontview", "sideview", "birdview", "galleryview",
           "robot0_robotview", "paperview")  # fmt: skip


def check_actions(actions: NDArray[np.floating]) -> None:
    """Raise ``ValueError`` unless ``actions`` is a finite float array [h, 7] with h >= 1."""
    if actions.ndim != 2 or actions.shape[1] != ACTION_DIM or len(actions) == 0:
        raise ValueError(f"actions must have shape [h, {ACTION_DIM}], got {list(actions.shape)}")
    if not np.isfinite(actions).all():
        raise ValueError("actions must be finite, got NaN or infinity")


def check_state(state: NDArray[np.float64], expected_length: int, task: str) -> None:
    """Raise ``ValueError`` unless ``state`` is a finite float64 [expected_length] of the task."""
    if state.shape != (expected_length,):
        got = len(state) if state.ndim == 1 else list(state.shape)
        raise ValueError(f"initial states of {task} have length {expected_length}, got {got}")
    if not np.isfinite(state).all():
        raise ValueError(f"an initial state of {task} holds values that are not finite")


def check_spec(spec: ObservationSpec) -> None:
    """Raise ``ValueError`` unless LIBERO scenes can draw these images."""
    if not spec.cameras:
        raise ValueError(f"cameras must name at least one of {', '.join(CAMERAS)}, got none")
    for camera in spec.cameras:
        if camera not in CAMERAS:
            raise ValueError(
                f"no LIBERO scene has a camera {camera!r}; allowed: {', '.join(CAMERAS)}"
            )
    for name, pixels in (("height", spec.height), ("width", spec.width)):
        if pixels < 1:
            raise ValueError(f"image {name} must be >= 1 pixel, got {pixels}")
