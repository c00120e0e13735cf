"""What belongs to one simulation, so that many can take turns on one scene."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's extension module comes without types.)

from dataclasses import dataclass, field, fields
from typing import Any, Protocol, Self

import mujoco
import numpy as np
from numpy.typing import NDArray

from pi0.records import Observation

Array = NDArray[np.float64]
NUM_JOINTS = 7

# What a reset draws (fixture poses) or a task changes (the stove's burner) on the model.
MODEL_FIELDS = ("body_pos", "body_quat", "site_rgba")

ModelState = dict[str, Array]
"""Copies of the model fields that differ between the simulations of one scene."""


def model_state(model: mujoco.MjModel) -> ModelState:
    """Return what this simulation has on the model that all share."""
    return {name: np.array(getattr(model, name)) for name in MODEL_FIELDS}


def set_model_state(model: mujoco.MjModel, state: ModelState) -> None:
    """Write back what ``model_state`` returned."""
    for name, values in state.items():
        getattr(model, name)[:] = values


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the controller knows of the robot. Float64; nv is the model's degrees of freedom.

    Attributes:
        ee_pos: [3], end effector position (m).
        ee_ori: [3, 3], its rotation.
        ee_vel: [6], linear (m/s), then angular (rad/s).
        joint_pos: [7] (rad).
        joint_vel: [7] (rad/s).
        jacobian_pos: [3, nv].
        jacobian_ori: [3, nv].
        mass_matrix: [nv, nv].
    """

    ee_pos: Array
    ee_ori: Array
    ee_vel: Array
    joint_pos: Array
    joint_vel: Array
    jacobian_pos: Array
    jacobian_ori: Array
    mass_matrix: Array

    @classmethod
    def empty(cls, nv: int) -> Self:
        """Return a reading to be written into."""
        return cls(
            ee_pos=np.zeros(3), ee_ori=np.zeros((3, 3)), ee_vel=np.zeros(6),
            joint_pos=np.zeros(NUM_JOINTS), joint_vel=np.zeros(NUM_JOINTS),
            jacobian_pos=np.zeros((3, nv)), jacobian_ori=np.zeros((3, nv)),
            mass_matrix=np.zeros((nv, nv)),
        )  # fmt: skip

    def write(self, other: "Reading") -> None:
        """Take over the values of another reading."""
        for item in fields(self):
            getattr(self, item.name)[...] = getattr(other, item.name)

    def copy(self) -> "Reading":
        """Return an independent reading."""
        return Reading(**{item.name: getattr(self, item.name).copy() for item in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlState:
    """What one control step leaves to the next.

    Attributes:
        goal_pos: Float64 [3] (m).
        goal_ori: Float64 [3, 3].
        gripper: Float64 [2] in [-1, 1].
        reading: The last reading if the next control step must act on it, else None.
    """

    goal_pos: Array
    goal_ori: Array
    gripper: Array
    reading: Reading | None


class Controller(Protocol):
    """The controller of one simulation: from actions to actuator commands, once per substep."""

    @property
    def has_reading(self) -> bool:
        """Return whether the next control step acts on a reading taken before it, as after a reset."""
        ...

    def adopt(self, controller: Any) -> None:
        """Take over from a controller that robosuite has just reset."""
        ...

    def state(self) -> ControlState:
        """Return a copy of all that the next control step depends on."""
        ...

    def install(self, state: ControlState) -> None:
        """Continue from what ``state`` returned, perhaps that of another simulation."""
        ...

    def set_goal(self, action: NDArray[np.floating]) -> None:
        """Aim at what an action, float [7], asks for; call after ``mj_step1``."""
        ...

    def command(self) -> None:
        """Write the actuator commands of this substep; call between ``mj_step1`` and ``mj_step2``."""
        ...


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
        """Advance by one substep and return whether observables sample now; both times in s."""
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
    """Everything one simulation's future depends on.

    Attributes:
        data: Positions, velocities and all else that MuJoCo keeps of it.
        controller: Its goal and gripper; bound to ``data``.
        model_state: What it has on the shared model.
        clock: When its observables sample next.
        proprio: Float64 [9], sampled last: hand position (m), orientation (x, y, z, w), fingers (m).
        observation: The observation drawn last; None before the first restore.
        is_success: Whether the task's condition has held since the restore.
    """

    data: mujoco.MjData
    controller: Controller
    model_state: ModelState = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    proprio: Array = field(default_factory=lambda: np.zeros(9))
    observation: Observation | None = None
    is_success: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A settled initial state, ready to be put into any slot; the fields are those of ``Slot``.

    Attributes:
        state: Float64 [n], MuJoCo's integration state.
        control: What the controller continues from.
        model_state: What it has on the shared model.
        clock: Elapsed seconds, and whether the period's sample has been taken.
        proprio: Float64 [9].
        observation: What the policy is given first.
    """

    state: Array
    control: ControlState
    model_state: ModelState
    clock: tuple[float, bool]
    proprio: Array
    observation: Observation


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What ``Scene.execute`` reports.

    Attributes:
        observation: What LIBERO's ``env.step`` returned for the last executed step; None if no
            observation was wanted.
        is_success: Whether the task's condition held after any step so far.
        num_steps: Control steps executed.
        frames: For a video, uint8 [num_steps, N, height, width, 3]: after each step what LIBERO's
            ``env.step`` would have shown; None if none was wanted.
    """

    observation: Observation | None
    is_success: bool
    num_steps: int
    frames: NDArray[np.uint8] | None = None
