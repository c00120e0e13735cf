"""What settled situations look like where the engine is proven: small images and states inside of the package.

Other processors round linear algebra differently and other drivers draw edges differently, so both are compared
within bounds: a wrong texture, color space, light, size or orientation is far outside of them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from pi0.records import ObservationSpec

SITUATIONS = (("libero_goal", 7, 0, 0), ("libero_object", 0, 0, 0))
"""Suite, task, initial state and fixture seed; the second has the floor that newer versions of MuJoCo draw dark."""

SPEC = ObservationSpec(cameras=("agentview", "robot0_eye_in_hand"), height=256, width=256)
NUM_STEPS_WAIT = 10  # as rollouts begin
IMAGE_BOUND = (
    1.0  # of 255, mean over blocks of pixels; MuJoCo 3.17 is 36 away in the second situation
)
STATE_BOUND = 1e-9  # m, m/s, rad, rad/s; another processor is 1e-14 away, MuJoCo 3.17 1e-6
FILE = Path(__file__).with_name("references.safetensors")
BLOCK = 16
SCALE = 256  # block means are kept in 1/256 of a level


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """How far a situation is from its reference.

    Attributes:
        image: Mean absolute difference of block means, of 255; the worse camera's.
        state: Largest difference of time, positions and velocities.
    """

    image: float
    state: float

    @property
    def is_within_bounds(self) -> bool:
        """Return whether a driver or a processor may explain it."""
        return self.image <= IMAGE_BOUND and self.state <= STATE_BOUND


def summarize(images: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return the means of blocks of 16 x 16 pixels in 1/256 of a level, uint16 [N, h / 16, w / 16, 3]."""
    count, height, width, _ = images.shape
    blocks = images.reshape(count, height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3)
    return np.rint(blocks.mean(axis=(2, 4)) * SCALE).astype(np.uint16)


def deviation(
    situation: tuple[str, int, int, int], images: NDArray[np.uint8], state: NDArray[np.float64]
) -> Deviation:
    """Compare what was drawn, uint8 [2, 256, 256, 3], and the state, float64 [n], with the reference."""
    name = key(situation)
    kept = load_file(FILE)
    means, reference = kept[f"{name}/images"], kept[f"{name}/state"]
    difference = np.abs(summarize(images).astype(np.float64) - means) / SCALE
    return Deviation(
        image=float(difference.mean(axis=(1, 2, 3)).max()),
        state=float(np.abs(state - reference).max()),
    )


def key(situation: tuple[str, int, int, int]) -> str:
    """Return the situation's name in the file."""
    return "/".join(map(str, situation))
