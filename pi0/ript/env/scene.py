"""One LIBERO task as an engine: one compiled model and one GL context, many simulation slots.

Physics states equal LIBERO's own ``OffScreenRenderEnv`` bit for bit and exact pictures pixel for
pixel, given the same initial state, fixture seed and actions. What is left out is only work whose
result no one reads: recompiling the model on reset, pictures of intermediate steps, repeated
forward dynamics, and observables beyond ``Observation``.
"""

# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# (mujoco's extension module and robosuite come without types.)

# ruff: noqa: SLF001 - robosuite offers no public way to its MuJoCo model, data and reset parts.

import time
from collections import OrderedDict

import mujoco
import numpy as np
from numpy.typing import NDArray
from robosuite.utils.transform_utils import convert_quat

from pi0.records import Observation, ObservationSpec
from pi0.ript.env.checks import check_actions, check_state
from pi0.ript.env.controller import Panda, RobotController
from pi0.ript.env.libero_env import LiberoEnv, model_state, set_model_state
from pi0.ript.env.renderer import Renderer
from pi0.ript.env.slot import Clock, Settled, Slot, StepResult
from pi0.ript.env.suites import task_language
from pi0.ript.types import InitialState

SETTLE_ACTION = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])
CACHE_SIZE = 128
STATE_KIND = int(mujoco.mjtState.mjSTATE_INTEGRATION)
DIVERGENCE = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL,
              mujoco.mjtWarning.mjWARN_BADQACC)  # fmt: skip


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
        self.film_seconds = 0.0
        self._libero = LiberoEnv(suite, task_id)
        self._env, self._model = self._libero.domain, self._libero.model
        # Nobody reads the gripper's force sensors, and the physics do not depend on them.
        self._model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_SENSOR)
        self._renderer = Renderer(self._model, spec)
        self._panda = Panda(self._env)
        self._slots = [self._make_slot() for _ in range(num_slots)]
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

    def is_settled(self, initial_state: InitialState) -> bool:
        """Return whether restoring this state is a copy of its cached settled state."""
        return initial_state.key in self._cache

    def execute(
        self,
        slot: int,
        actions: NDArray[np.float32],
        *,
        look: bool = True,
        look_when_solved: bool = True,
        film: bool = False,
    ) -> StepResult:
        """Run up to h control steps and stop at success.

        Args:
            slot: A slot that has been restored.
            actions: Float [h, 7]; LIBERO clips them to [-1, 1].
            look: False draws nothing and reports no observation; the physics are the same.
            look_when_solved: The same for a command that ends with the task solved.
            film: Draw every step as well, for a film; all else is the same.

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
        self._activate(target)
        num_steps, has_looked = 0, False
        frames: list[NDArray[np.uint8]] = []
        while num_steps < len(actions) and not target.is_success:
            if film and num_steps:
                frames.append(self._film(target, has_looked=has_looked))
            is_last = num_steps == len(actions) - 1
            has_looked |= self._control_step(
                target, actions[num_steps], look=look or film, will_draw=is_last or film
            )
            target.is_success = bool(self._env._check_success())
            self._env._post_process()
            num_steps += 1
        self._deactivate(target)
        if any(target.data.warning[kind].number for kind in DIVERGENCE):
            raise RuntimeError(f"the physics of {self.suite} task {self.task_id} diverged")
        look = look and (look_when_solved or not target.is_success)
        if has_looked and look:
            target.observation = self._draw(target.proprio)
        if film and num_steps:
            is_drawn = look or not has_looked
            frames.append(
                target.observation.images if is_drawn else self._film(target, has_looked=True)
            )
        return StepResult(
            observation=target.observation if look else None,
            is_success=target.is_success,
            num_steps=num_steps,
            frames=np.stack(frames) if frames else None,
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
        self._gripper_qpos = list(robot._ref_gripper_joint_pos_indexes)
        self._eef_body = model.body_name2id(robot.robot_model.eef_name)

    def _make_slot(self) -> Slot:
        data = mujoco.MjData(self._model)
        return Slot(data=data, controller=RobotController(self._panda, data))

    def _check_state(self, initial_state: InitialState) -> None:
        if (initial_state.suite, initial_state.task_id) != (self.suite, self.task_id):
            raise ValueError(
                f"this scene is {self.suite} task {self.task_id}, the initial state belongs to "
                f"{initial_state.suite} task {initial_state.task_id}"
            )
        expected = 1 + self._model.nq + self._model.nv
        check_state(initial_state.state, expected, f"{self.suite} task {self.task_id}")

    # Putting a slot under robosuite's objects and taking it out again.

    def _activate(self, slot: Slot) -> None:
        self._env.sim.data._data = slot.data
        set_model_state(self._model, slot.model_state)

    def _deactivate(self, slot: Slot) -> None:
        slot.model_state = model_state(self._model)

    # Restoring.

    def _settle(self, slot: Slot, initial_state: InitialState) -> None:
        self._activate(slot)
        self._libero.reset(initial_state.fixture_seed)
        slot.controller.adopt(self._robot.controller)
        slot.is_success = False
        slot.clock = Clock()
        slot.clock.force(self._timestep)
        self._set_state(slot, initial_state.state)
        for step in range(self.num_steps_wait):
            is_last = step == self.num_steps_wait - 1
            self._control_step(slot, SETTLE_ACTION, look=True, will_draw=is_last)
            self._env._post_process()
        self._deactivate(slot)
        slot.observation = self._draw(slot.proprio)

    def _set_state(self, slot: Slot, state: NDArray[np.float64]) -> None:
        sim = self._env.sim
        sim.set_state_from_flattened(state)
        sim.forward()
        self._env._check_success()
        self._env._post_process()
        slot.clock.force(self._timestep)
        self._look(slot, look=True, will_draw=self.num_steps_wait == 0)

    def _snapshot(self, slot: Slot) -> Settled:
        assert slot.observation is not None
        state = np.empty(mujoco.mj_stateSize(self._model, STATE_KIND))
        mujoco.mj_getState(self._model, slot.data, state, STATE_KIND)
        return Settled(
            state=state,
            control=slot.controller.state(),
            model_state=slot.model_state,
            clock=(slot.clock.elapsed, slot.clock.has_sampled),
            proprio=slot.proprio,
            observation=slot.observation,
        )

    def _install(self, slot: Slot, settled: Settled) -> None:
        mujoco.mj_resetData(self._model, slot.data)
        mujoco.mj_setState(self._model, slot.data, settled.state, STATE_KIND)
        slot.controller.install(settled.control)
        slot.model_state = settled.model_state
        slot.clock = Clock(elapsed=settled.clock[0], has_sampled=settled.clock[1])
        slot.proprio = settled.proprio
        slot.observation = settled.observation
        slot.is_success = False

    # Stepping.

    def _control_step(
        self, slot: Slot, action: NDArray[np.floating], *, look: bool, will_draw: bool
    ) -> bool:
        """Run one control step and return whether observables sampled in it.

        Args:
            slot: An activated slot.
            action: Float [7].
            look: False notes nothing for a picture.
            will_draw: Whether this step's look is most likely the one that is drawn.
        """
        controller, data, model = slot.controller, slot.data, self._model
        has_looked = False
        for substep in range(self._substeps):
            mujoco.mj_step1(model, data)
            if substep == 0:
                controller.set_goal(action)
            controller.command()
            mujoco.mj_step2(model, data)
            if slot.clock.tick(self._timestep, self._sampling_period):
                self._look(slot, look=look, will_draw=will_draw)
                has_looked = True
        return has_looked

    def _look(self, slot: Slot, *, look: bool, will_draw: bool) -> None:
        data = slot.data
        slot.proprio = np.concatenate(
            [
                data.site_xpos[self._panda.site_id],
                convert_quat(data.xquat[self._eef_body], to="xyzw"),
                data.qpos[self._gripper_qpos],
            ]
        )
        if look:
            self._renderer.look(data, cull=will_draw)

    def _film(self, slot: Slot, *, has_looked: bool) -> NDArray[np.uint8]:
        """Draw the last look of this command; before there is one, env.step shows the look before it."""
        assert slot.observation is not None
        if not has_looked:
            return slot.observation.images
        started = time.perf_counter()
        images = self._renderer.render()
        self.film_seconds += time.perf_counter() - started
        return images

    def _draw(self, proprio: NDArray[np.float64]) -> Observation:
        started = time.perf_counter()
        images = self._renderer.render()
        self.render_seconds += time.perf_counter() - started
        return Observation(images=images, proprio=proprio)
