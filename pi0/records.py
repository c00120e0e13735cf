"""What a policy is given and what it returns: the records shared with every simulator.

Plain numpy, so that simulator processes can use them without importing torch.

Shape legend: N cameras, S denoise steps, H actions per chunk, h executed actions, A model action dims.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

RenderQuality = Literal["exact", "fast"]
ScoredSteps = Literal["all", "one"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEncoding:
    """How rendered images become what the network reads, where that is whole numbers: see ``pi0.images``.

    Attributes:
        size: Height and width in pixels of what the network reads; openpi's filter shrinks to it.
        rotate_180: Whether images are turned before.
    """

    size: int
    rotate_180: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationSpec:
    """Which images a policy is given.

    Example: ``ObservationSpec(cameras=("agentview",), height=96, width=96, quality="fast")``.

    Attributes:
        cameras: LIBERO camera names, in the order of ``Observation.images``.
        height: Rendered height in pixels.
        width: Rendered width in pixels.
        quality: ``exact`` gives LIBERO's own pixels; ``fast`` switches multisampling and
            reflections off, which changes pixels slightly and is only right for a policy trained so.
        encoding: What simulators make of the images before they send them; None sends what was rendered.
    """

    cameras: tuple[str, ...]
    height: int
    width: int
    quality: RenderQuality = "exact"
    encoding: ImageEncoding | None = None

    @property
    def rendered_shape(self) -> tuple[int, int, int, int]:
        """Return the shape of rendered images, [N, height, width, 3]."""
        return len(self.cameras), self.height, self.width, 3

    @property
    def sent_shape(self) -> tuple[int, int, int, int]:
        """Return the shape of the images of an observation, [N, height, width, 3]."""
        if self.encoding is None:
            return self.rendered_shape
        return len(self.cameras), self.encoding.size, self.encoding.size, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a policy is given of the simulator, exactly as LIBERO's ``env.step`` returned it.

    Attributes:
        images: uint8 [N, height, width, 3], RGB, as LIBERO renders them (upside-down); with an ``encoding``,
            as the network reads them.
        proprio: float64 [9]: end-effector position (m, 3), quaternion (x, y, z, w), gripper (2).
        encoding: What the simulator made of the images before it sent them; None for nothing.
    """

    images: NDArray[np.uint8]
    proprio: NDArray[np.float64]
    encoding: ImageEncoding | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One action chunk of the policy, with everything needed to score it again.

    Attributes:
        actions: float32 [h, 7], simulator space, clipped to [-1, 1]: what is executed.
        chain: float32 [S + 1, H, A], model space: ``chain[0]`` is the initial noise and
            ``chain[S]`` the normalized action chunk.
        is_stochastic: Whether noise was injected along the chain (rollouts) or not (evaluation).
        noisy_step: The only denoise step with noise; None for all of them, where there is noise at all.
    """

    actions: NDArray[np.float32]
    chain: NDArray[np.float32]
    is_stochastic: bool
    noisy_step: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a denoising chain is drawn.

    Attributes:
        num_steps: S, denoise steps from noise (t = 1) to action (t = 0).
        noise_scale: The letter a of Flow-SDE; 0 is the deterministic ODE used for evaluation.
        scored_steps: Whether ``all`` denoise steps are noisy, or ``one`` that is drawn for every policy step.
        guidance: Of classifier-free guidance; 1 is the network as it is.
    """

    num_steps: int
    noise_scale: float = 0.0
    scored_steps: ScoredSteps = "all"
    guidance: float = 1.0


AutoSize = Literal["auto"]
# Samples of a policy call where nothing is chosen. A CPU computes n samples in n times the time of one, and every call
# pays for a full one; a GPU pays for the next power of two.
CPU_BATCH_SIZE, GPU_BATCH_SIZE = 4, 64


def choose_batch_size(requested: int | AutoSize, device_type: str) -> int:
    """Return the most samples of a policy call; ``auto`` is 4 on a CPU and 64 on a GPU."""
    if requested != "auto":
        return requested
    return CPU_BATCH_SIZE if device_type == "cpu" else GPU_BATCH_SIZE
