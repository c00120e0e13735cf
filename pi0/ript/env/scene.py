"""One LIBERO task as an engine: one compiled model and one GL context, many simulation slots.

Physics states equal LIBERO's own ``OffScreenRenderEnv`` bit for bit and exact pictures pixel for
pixel, given the same initial state, fixture seed and actions. What is left out is only work whose
result no one reads: recompiling the model on reset, pictures of intermediate steps, repeated
forward dynamics, and observables beyond ``Observation``.
"""

# ruff: noqa: SLF001 - robosuite offers no public way to its MuJoCo model, data and reset parts.

import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import mujoco
import numpy as np
import robosuite
from libero.libero.envs import bddl_utils
from libero.libero.envs.bddl_base_domain import TASK_MAPPING, BDDLBaseDomain
from numpy.typing import NDArray
from robosuite.utils.errors import RandomizationError
from robosuite.utils.transform_utils import convert_quat

from pi0.records import Observation, ObservationSpec
from pi0.ript.env.controller import FastController
from pi0.ript.env.renderer import Renderer
from pi0.ript.env.suites import bddl_file, task_language
from pi0.ript.types import InitialState

SETTLE_ACTION = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])
ACTION_DIM = 7
CACHE_SIZE = 128
PLACEMENT_ATTEMPTS = 100
# What a reset draws (fixture poses) or a task changes (the stove's burner) on the model.
MODEL_FIELDS = ("body_pos", "body_quat", "site_rgba")
STATE_KIND = int(mujoco.mjtState.mjSTATE_INTEGRATION)
DIVERGENCE = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL,
              mujoco.mjtWarning.mjWARN_BADQACC)  # fmt: skip

ModelState = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What ``Scene.execute`` reports.

    Attributes:
        observation: What LIBERO's ``env.step`` returned for the last executed step.
        is_success: Whether the task's condition held after any step so far.
        num_steps: Control steps executed.
    """

    observation: Observation
    is_success: bool
    num_steps: int


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
    controller: FastController | None = None
    gripper: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    model_state: ModelState = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    proprio: NDArray[np.float64] = field(default_factory=lambda: np.zeros(9))
    observation: Observation | None = None
    is_success: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A settled initial state, ready to be put into any slot."""

    state: NDArray[np.float64]
    controller: FastController
    gripper: NDArray[np.float64]
    model_state: ModelState
    clock: tuple[float, bool]
    proprio: NDArray[np.float64]
    observation: Observation


class Scene:
    """One task's scene with many slots.

    Example:
        ``scene = Scene("libero_goal", 7, spec, num_slots=4)``, then ``scene.restore(0, state)`` and
        ``scene.execute(0, actions)``; ``scene.close()`` at the end.
    """

    def __init__(
        self,
        suite: str,
        task_id: int,
        spec: ObservationSpec,
        num_slots: int,
        num_steps_wait: int = 10,
    ) -> None:
        """Build the scene (5 to 8 s in a fresh process, then 1 to 3 s).

        Args:
            suite: LIBERO suite.
            task_id: Task number within the suite.
            spec: Which pictures to draw.
            num_slots: How many simulations run side by side.
            num_steps_wait: Settling steps that follow every restore.
        """
        self.suite, self.task_id, self.spec = suite, task_id, spec
        self.num_steps_wait = num_steps_wait
        self.render_seconds = 0.0
        with _preserved_numpy_generator():
            self._env, self._pristine = _build(suite, task_id)
        self._initializers = list(self._env.object_property_initializers)
        self._model = self._env.sim.model._model
        self._renderer = Renderer(self._model, spec)
        self._slots = [Slot(data=mujoco.MjData(self._model)) for _ in range(num_slots)]
        self._scratch = mujoco.MjData(self._model)
        self._cache: OrderedDict[str, Settled] = OrderedDict()
        self._robot = self._env.robots[0]
        self._read_constants()

    @property
    def language(self) -> str:
        """Return the instruction of the task."""
        return task_language(self.suite, self.task_id)

    @property
    def num_slots(self) -> int:
        """Return how many simulations run side by side."""
        return len(self._slots)

    def restore(self, slot: int, initial_state: InitialState) -> Observation:
        """Bring a slot to a settled initial state.

        The result is that of ``env.seed(fixture_seed)``, ``env.reset()`` on a new LIBERO
        environment, ``env.set_init_state(state)`` and ``num_steps_wait`` settling steps.

        Args:
            slot: Which slot.
            initial_state: Where to start; must belong to this scene's task.

        Returns:
            What LIBERO's last call returned.
        """
        self._check_state(initial_state)
        key = initial_state.key
        target = self._slots[slot]
        if key in self._cache:
            self._cache.move_to_end(key)
            self._install(target, self._cache[key])
        else:
            self._settle(target, initial_state)
            self._cache[key] = self._snapshot(target)
            if len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
        assert target.observation is not None
        return target.observation

    def execute(self, slot: int, actions: NDArray[np.float32]) -> StepResult:
        """Run up to h control steps and stop at success.

        Args:
            slot: A slot that has been restored.
            actions: Float [h, 7]; LIBERO clips them to [-1, 1].

        Returns:
            The look of the last executed step; a slot that has succeeded before executes nothing.

        Raises:
            ValueError: Wrong shape or a value that is not finite.
            RuntimeError: The physics diverged.
        """
        check_actions(actions)
        target = self._slots[slot]
        if target.observation is None:
            raise ValueError(f"slot {slot} must be restored before it executes")
        if target.is_success:
            return StepResult(observation=target.observation, is_success=True, num_steps=0)
        self._activate(target)
        num_steps, has_looked = 0, False
        while num_steps < len(actions) and not target.is_success:
            has_looked |= self._control_step(target, actions[num_steps])
            target.is_success = bool(self._env._check_success())
            self._env._post_process()
            num_steps += 1
        self._deactivate(target)
        if any(target.data.warning[kind].number for kind in DIVERGENCE):
            raise RuntimeError(f"the physics of {self.suite} task {self.task_id} diverged")
        if has_looked:
            target.observation = self._draw(target.proprio)
        return StepResult(
            observation=target.observation, is_success=target.is_success, num_steps=num_steps
        )

    def body_pose(
        self, slot: int, body_name: str
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return a body's position (m, [3]) and quaternion (w, x, y, z), both in the world."""
        target = self._slots[slot]
        body_id = self._env.sim.model.body_name2id(body_name)
        self._activate(target)
        # MuJoCo leaves poses one substep behind qpos; the slot's own must stay so.
        self._scratch.qpos[:] = target.data.qpos
        mujoco.mj_kinematics(self._model, self._scratch)
        return self._scratch.xpos[body_id].copy(), self._scratch.xquat[body_id].copy()

    def joint_qpos(self, slot: int, joint_name: str) -> NDArray[np.float64]:
        """Return the position of a joint, float64 [1] for hinges and slides, [7] for free ones."""
        address = self._env.sim.model.get_joint_qpos_addr(joint_name)
        first, last = address if isinstance(address, tuple) else (address, address + 1)
        return self._slots[slot].data.qpos[first:last].copy()

    def body_names(self) -> tuple[str, ...]:
        """Return the names of all bodies."""
        return tuple(self._env.sim.model.body_names)

    def joint_names(self) -> tuple[str, ...]:
        """Return the names of all joints."""
        return tuple(self._env.sim.model.joint_names)

    def physics_state(self, slot: int) -> NDArray[np.float64]:
        """Return time, qpos and qvel as LIBERO flattens them, float64 [n]."""
        data = self._slots[slot].data
        return np.concatenate([[data.time], data.qpos, data.qvel])

    def close(self) -> None:
        """Free the GL context and the model; safe to call twice."""
        self._renderer.close()
        self._slots.clear()
        self._cache.clear()

    def _read_constants(self) -> None:
        robot, model = self._robot, self._env.sim.model
        self._timestep, self._period = self._env.model_timestep, self._env.control_timestep
        # Observables have a period of their own, which robosuite derives from the control rate.
        self._sampling_period = 1.0 / self._env.control_freq
        self._substeps = int(self._period / self._timestep)
        self._torque_low, self._torque_high = robot.torque_limits
        self._arm_actuators = robot._ref_joint_actuator_indexes
        self._gripper_actuators = [model.actuator_name2id(n) for n in robot.gripper.actuators]
        ctrl_range = model.actuator_ctrlrange[self._gripper_actuators]
        self._gripper_bias = 0.5 * (ctrl_range[:, 1] + ctrl_range[:, 0])
        self._gripper_weight = 0.5 * (ctrl_range[:, 1] - ctrl_range[:, 0])
        self._gripper_qpos = list(robot._ref_gripper_joint_pos_indexes)
        self._eef_body = model.body_name2id(robot.robot_model.eef_name)

    def _check_state(self, initial_state: InitialState) -> None:
        if (initial_state.suite, initial_state.task_id) != (self.suite, self.task_id):
            raise ValueError(
                f"this scene is {self.suite} task {self.task_id}, the initial state belongs to "
                f"{initial_state.suite} task {initial_state.task_id}"
            )
        expected = 1 + self._model.nq + self._model.nv
        if initial_state.state.shape != (expected,):
            raise ValueError(
                f"initial states of {self.suite} task {self.task_id} have length {expected}, "
                f"got {initial_state.state.shape}"
            )
        if not np.isfinite(initial_state.state).all():
            raise ValueError("the initial state holds values that are not finite")

    # Putting a slot under robosuite's objects and taking it out again.

    def _activate(self, slot: Slot) -> None:
        self._env.sim.data._data = slot.data
        for name, values in slot.model_state.items():
            getattr(self._model, name)[:] = values
        self._robot.controller = slot.controller

    def _deactivate(self, slot: Slot) -> None:
        slot.model_state = self._model_state()

    def _model_state(self) -> ModelState:
        return {name: np.array(getattr(self._model, name)) for name in MODEL_FIELDS}

    # Restoring.

    def _settle(self, slot: Slot, initial_state: InitialState) -> None:
        slot.model_state = self._pristine
        self._activate(slot)
        with _preserved_numpy_generator():
            self._reset(initial_state.fixture_seed)
        slot.controller = FastController.adopt(self._robot.controller)
        slot.gripper = np.zeros(2)
        slot.is_success = False
        slot.clock = Clock()
        slot.clock.force(self._timestep)
        self._set_state(slot, initial_state.state)
        for _ in range(self.num_steps_wait):
            self._control_step(slot, SETTLE_ACTION)
            self._env._post_process()
        self._deactivate(slot)
        slot.observation = self._draw(slot.proprio)

    def _reset(self, fixture_seed: int) -> None:
        # LIBERO recompiles the model on reset, which appends the task's joint initializers to its
        # list once more: a new environment draws them twice on its first reset, and once more for
        # every placement that failed. The draws come before those of the fixture poses.
        self._env.seed(fixture_seed)
        for attempt in range(PLACEMENT_ATTEMPTS):
            self._env.object_property_initializers = self._initializers * (2 + attempt)
            for name, values in self._pristine.items():
                getattr(self._model, name)[:] = values
            try:
                self._env.reset()
            except RandomizationError:
                continue
            return
        raise RuntimeError(f"LIBERO found no valid placement with fixture seed {fixture_seed}")

    def _set_state(self, slot: Slot, state: NDArray[np.float64]) -> None:
        sim = self._env.sim
        sim.set_state_from_flattened(state)
        sim.forward()
        self._env._check_success()
        self._env._post_process()
        slot.clock.force(self._timestep)
        self._look(slot)

    def _snapshot(self, slot: Slot) -> Settled:
        assert slot.controller is not None
        assert slot.observation is not None
        state = np.empty(mujoco.mj_stateSize(self._model, STATE_KIND))
        mujoco.mj_getState(self._model, slot.data, state, STATE_KIND)
        return Settled(
            state=state,
            controller=slot.controller.clone(),
            gripper=slot.gripper,
            model_state=slot.model_state,
            clock=(slot.clock.elapsed, slot.clock.has_sampled),
            proprio=slot.proprio,
            observation=slot.observation,
        )

    def _install(self, slot: Slot, settled: Settled) -> None:
        mujoco.mj_resetData(self._model, slot.data)
        mujoco.mj_setState(self._model, slot.data, settled.state, STATE_KIND)
        slot.controller = settled.controller.clone()
        slot.gripper = settled.gripper
        slot.model_state = settled.model_state
        slot.clock = Clock(elapsed=settled.clock[0], has_sampled=settled.clock[1])
        slot.proprio = settled.proprio
        slot.observation = settled.observation
        slot.is_success = False

    # Stepping.

    def _control_step(self, slot: Slot, action: NDArray[np.floating]) -> bool:
        """Run one control step and return whether observables sampled in it."""
        controller, data, model = slot.controller, slot.data, self._model
        assert controller is not None
        gripper_step = np.array([-1.0, 1.0]) * self._robot.gripper.speed * np.sign(action[6:])
        has_looked = False
        for substep in range(self._substeps):
            mujoco.mj_step1(model, data)
            if substep == 0:
                controller.set_goal(action[:6])
            torques = np.clip(controller.run_controller(), self._torque_low, self._torque_high)
            slot.gripper = np.clip(slot.gripper + gripper_step, -1.0, 1.0)
            ctrl = data.ctrl
            ctrl[self._gripper_actuators] = self._gripper_bias + self._gripper_weight * slot.gripper
            ctrl[self._arm_actuators] = torques
            mujoco.mj_step2(model, data)
            if slot.clock.tick(self._timestep, self._sampling_period):
                self._look(slot)
                has_looked = True
        return has_looked

    def _look(self, slot: Slot) -> None:
        data = slot.data
        assert slot.controller is not None
        slot.proprio = np.concatenate(
            [
                data.site_xpos[slot.controller.site_id],
                convert_quat(data.xquat[self._eef_body], to="xyzw"),
                data.qpos[self._gripper_qpos],
            ]
        )
        self._renderer.look(data)

    def _draw(self, proprio: NDArray[np.float64]) -> Observation:
        started = time.perf_counter()
        images = self._renderer.render()
        self.render_seconds += time.perf_counter() - started
        return Observation(images=images, proprio=proprio)


def check_actions(actions: NDArray[np.floating]) -> None:
    """Raise ``ValueError`` unless ``actions`` is a finite [h, 7] array with h >= 1."""
    if actions.ndim != 2 or actions.shape[1] != ACTION_DIM or len(actions) == 0:
        raise ValueError(f"actions must have shape [h, {ACTION_DIM}], got {list(actions.shape)}")
    if not np.isfinite(actions).all():
        raise ValueError("actions must be finite, got NaN or infinity")


@contextmanager
def _preserved_numpy_generator() -> Iterator[None]:
    # LIBERO draws from numpy's global generator; the caller's sequence must not notice.
    saved = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(saved)  # noqa: NPY002


def _build(suite: str, task_id: int) -> tuple[BDDLBaseDomain, ModelState]:
    """Build LIBERO's environment for a task as ``ControlEnv`` does, without a GL context.

    Returns:
        The environment and the model fields as compiled, before the first reset drew fixture poses.
    """
    path = str(bddl_file(suite, task_id))
    domain = TASK_MAPPING[bddl_utils.get_problem_info(path)["problem_name"]]
    pristine: ModelState = {}

    def initialize_sim(self: BDDLBaseDomain, xml_string: str | None = None) -> None:
        domain._initialize_sim(self, xml_string)
        for name in MODEL_FIELDS:
            pristine[name] = np.array(getattr(self.sim.model._model, name))

    # The domain checks that its class is named after the problem.
    recording = type(domain.__name__, (domain,), {"_initialize_sim": initialize_sim})
    np.random.seed(0)  # noqa: NPY002 - LIBERO's constructor draws a first placement
    env = recording(
        path,
        robots=["Panda"],
        controller_configs=robosuite.load_controller_config(default_controller="OSC_POSE"),
        gripper_types="default",
        initialization_noise=None,
        use_camera_obs=False,
        has_renderer=False,
        has_offscreen_renderer=False,
        control_freq=20,
        hard_reset=False,
    )
    return env, pristine
