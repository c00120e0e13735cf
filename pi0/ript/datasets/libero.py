"""LIBERO in public data sets: what they call its cameras, states and actions, and what their states mean."""

import numpy as np
from numpy.typing import NDArray

CAMERA_KEYS = {
    "agentview": ("observation.images.image", "image"),
    "robot0_eye_in_hand": (
        "observation.images.image2",
        "observation.images.wrist_image",
        "wrist_image",
    ),
}
"""LIBERO's camera -> what data sets call it: LeRobot's sets first, then openpi's and RLinf's."""

STATE_KEYS = ("observation.state", "state")
ACTION_KEYS = ("action", "actions")
STATE_WIDTH = 8  # position (3), axis-angle (3), fingers (2)
ACTION_WIDTH = 7
PROPRIO_WIDTH = 9


def proprio_of_state(states: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return proprioception [F, 9] from states [F, 8], which have the orientation as an axis-angle.

    The inverse of what the codec makes of it: angles up to 2 pi come back unwrapped.
    """
    states = np.asarray(states, dtype=np.float64)
    rotation = states[:, 3:6]
    angle = np.linalg.norm(rotation, axis=-1, keepdims=True)
    # sin(angle / 2) / angle, which is 1 / 2 at 0
    scale = 0.5 * np.sinc(angle / (2 * np.pi))
    quaternion = np.concatenate([rotation * scale, np.cos(angle / 2)], axis=-1)
    return np.concatenate([states[:, :3], quaternion, states[:, 6:8]], axis=-1)


def turned(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images [..., height, width, 3] turned by 180 degrees: data sets hold them upright, LIBERO does not."""
    return images[..., ::-1, ::-1, :]
