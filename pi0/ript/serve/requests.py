"""The observation that openpi's LIBERO clients send -> a checked request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pi0.card import STATE_DIMS
from pi0.client_observation import ClientObservation
from pi0.ript.serve.protocol import BadRequestError

CAMERA_KEYS = {
    "agentview": "observation/image",
    "robot0_eye_in_hand": "observation/wrist_image",
}
STATE, PROMPT, SEED = "observation/state", "prompt", "seed"
STATE_DIM = STATE_DIMS["axis_angle"]
LEAST_PIXELS, MOST_PIXELS = 16, 2048
MOST_LETTERS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRequest:
    """One call of the policy.

    Attributes:
        observation: Images and state.
        prompt: The instruction.
        seed: Of the noise that the action chunk is drawn from, in [0, 2**63).
    """

    observation: ClientObservation
    prompt: str
    seed: int


def require_served(cameras: Sequence[str]) -> None:
    """Raise ``ValueError`` if openpi's LIBERO clients send no image of a camera."""
    for camera in cameras:
        if camera not in CAMERA_KEYS:
            raise ValueError(
                f"the policy needs camera {camera!r}, which openpi's LIBERO clients do not send; "
                f"cameras that can be served: {', '.join(CAMERA_KEYS)}"
            )


def read_request(values: Mapping[str, Any], cameras: Sequence[str], seed: int) -> ActionRequest:
    """Return the request that a decoded frame holds.

    An image of a camera that the policy does not have is left unread: openpi's clients always send both.

    Args:
        values: As ``decode`` returned them.
        cameras: Of the policy.
        seed: Taken where the client names none.

    Raises:
        BadRequestError: A key is missing or unknown, or its value cannot be used.
    """
    needed = [*(CAMERA_KEYS[camera] for camera in cameras), STATE, PROMPT]
    known = {*CAMERA_KEYS.values(), STATE, PROMPT, SEED}
    for key in sorted(values.keys() - known):
        raise BadRequestError(f"unknown key {key!r:.60}; this policy reads {', '.join(needed)}")
    for key in needed:
        if key not in values:
            raise BadRequestError(f"key {key!r} is missing; this policy reads {', '.join(needed)}")
    return ActionRequest(
        observation=ClientObservation(
            images=tuple(
                _image(CAMERA_KEYS[camera], values[CAMERA_KEYS[camera]]) for camera in cameras
            ),
            state=_state(values[STATE]),
        ),
        prompt=_prompt(values[PROMPT]),
        seed=_seed(values.get(SEED, seed)),
    )


def _image(key: str, value: object) -> NDArray[np.uint8]:
    """Return an image as uint8 [height, width, 3]; openpi's server takes the same four forms."""
    if (
        not isinstance(value, np.ndarray)
        or value.ndim != 3
        or 3 not in (value.shape[0], value.shape[2])
    ):
        raise BadRequestError(f"{key!r} must be an image [height, width, 3], got {_kind(value)}")
    image = value if value.shape[2] == 3 else value.transpose(1, 2, 0)
    if not all(LEAST_PIXELS <= side <= MOST_PIXELS for side in image.shape[:2]):
        raise BadRequestError(
            f"{key!r} must have {LEAST_PIXELS} to {MOST_PIXELS} pixels a side, got {_kind(value)}"
        )
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind != "f" or not ((image >= 0) & (image <= 1)).all():
        raise BadRequestError(
            f"{key!r} must be uint8, or floats between 0 and 1, got {_kind(value)}"
        )
    return (255 * image).astype(np.uint8)


def _state(value: object) -> NDArray[np.float64]:
    state = np.array(value, np.float64) if _is_numbers(value) else None
    if state is None or state.shape != (STATE_DIM,):
        raise BadRequestError(
            f"{STATE!r} must be {STATE_DIM} numbers (position, axis-angle, two fingers), got {_kind(value)}"
        )
    if not np.isfinite(state).all():
        raise BadRequestError(f"{STATE!r} is not finite: {state.tolist()}")
    return state


def _is_numbers(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "iuf"
    return isinstance(value, list) and all(type(each) in (int, float) for each in value)


def _prompt(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > MOST_LETTERS:
        raise BadRequestError(
            f"{PROMPT!r} must be an instruction of 1 to {MOST_LETTERS} letters, got {_kind(value)}"
        )
    return value


def _seed(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise BadRequestError(f"{SEED!r} must be a whole number in [0, 2**63), got {_kind(value)}")
    return value


def _kind(value: object) -> str:
    """Return what a value is, on one short line."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, str | list | dict):
        return f"{type(value).__name__} of length {len(value)}"
    return f"{value!r:.40}"
