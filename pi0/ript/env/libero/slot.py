"""What belongs to one simulation, so that many can take turns on one scene."""

# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# (mujoco's extension module and robosuite come without types.)

from dataclasses import dataclass, field

import mujoco
import numpy as np
from numpy.typing import NDArray

from pi0.records import Observation
from pi0.ript.env.libero.controller import ControlState, RobotController
from pi0.ript.env.libero.libero_env import ModelState


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What ``Scene.execute`` reports.

    Attributes:
        observation: What LIBERO's ``env.step`` returned for the last executed step; None if no
            look was wanted.
        is_success: Whether the task's condition held after any step so far.
        num_steps: Control steps executed.
        frames: For a film, uint8 [num_steps, N, height, width, 3]: after each step what LIBERO's
            ``env.step`` would have shown; None if none was wanted.
    """

    observation: Observation | None
    is_success: bool
    num_steps: int
    frames: NDArray[np.uint8] | None = None


@dataclass(slots=True, kw_only=True)
class Clock:
    """When robosuite's observables sample: once per control period, decided by summed float time.

    Attributes:
        elapsed: Seconds since the last period began.
        has_sampled: Whether this period's sample has been taken.
    """

    elapsed: float = 0.0
    has_sampled: bool = False

    def tick(self, timestep: float, period: float) -> bool:
        """Advance by one substep and say whether observables sample now."""
        self.elapsed += timestep
        samples = not self.has_sampled and period >= self.elapsed
        if samples:
            self.has_sampled = True
        if self.elapsed >= period:
            self.elapsed %= period
            self.has_sampled = False
        return samples

    def force(self, timestep: float) -> None:
        """Advance by one forced sample, as reset and ``set_init_state`` do."""
        self.elapsed += timestep
        self.has_sampled = True


@dataclass(slots=True, kw_only=True)
class Slot:
    """Everything one simulation's future depends on."""

    data: mujoco.MjData
    controller: RobotController
    model_state: ModelState = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    proprio: NDArray[np.float64] = field(default_factory=lambda: np.zeros(9))
    observation: Observation | None = None
    is_success: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A settled initial state, ready to be put into any slot."""

    state: NDArray[np.float64]
    control: ControlState
    model_state: ModelState
    clock: tuple[float, bool]
    proprio: NDArray[np.float64]
    observation: Observation
