"""One LIBERO task as an engine: one compiled model and one GL context, many simulation slots.

Physics states equal LIBERO's own ``OffScreenRenderEnv`` bit for bit and exact images pixel for
pixel, given the same initial state, fixture seed and actions. What is left out is only work whose
result no one reads: recompiling the model on reset, images of intermediate steps, repeated
forward dynamics, and observables beyond ``Observation``.
"""

# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# (mujoco's extension module and robosuite come without types.)

# ruff: noqa: SLF001 - robosuite offers no public way to its MuJoCo model, data and reset parts.

from functools import partial

import mujoco
import numpy as np
from numpy.typing import NDArray

from pi0.records import Observation, ObservationSpec
from pi0.ript.env.checks import check_actions, check_state
from pi0.ript.env.libero.control_steps import ControlSteps
from pi0.ript.env.libero.controller import Panda, RobotController
from pi0.ript.env.libero.libero_env import LiberoEnv
from pi0.ript.env.libero.renderer import Observer, Renderer
from pi0.ript.env.libero.settled_states import SettledStates
from pi0.ript.env.libero.shared_drawing import SharedDrawing
from pi0.ript.env.libero.slot import Clock, Slot, StepResult
from pi0.ript.env.libero.unread_pages import release_unread
from pi0.ript.env.libero.versions import require_verified_versions
from pi0.ript.env.resources import SETTLED_STATES
from pi0.ript.env.suites import bddl_file, task_language
from pi0.ript.interfaces import DivergedError
from pi0.ript.types import InitialState

SETTLE_ACTION = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])
DIVERGENCE = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL,
              mujoco.mjtWarning.mjWARN_BADQACC)  # fmt: skip


class Scene:
    """One task's scene with many slots.

    Example:
        ``scene = Scene("libero_goal", 7, spec, num_slots=4, num_steps_wait=10)``, then
        ``scene.restore(0, state)`` and ``scene.execute(0, actions)``; ``scene.close()`` at the end.
    """

    def __init__(
        self,
        suite: str,
        task_id: int,
        spec: ObservationSpec,
        num_slots: int,
        num_steps_wait: int,
        drawing: SharedDrawing | None = None,
    ) -> None:
        """Build the scene (5 to 8 s in a fresh process, then 1 to 3 s).

        Args:
            suite: LIBERO suite.
            task_id: Task number within the suite.
            spec: Which images to draw.
            num_slots: How many simulations run side by side.
            num_steps_wait: Settling steps that follow every restore.
            drawing: What this scene's textures and meshes are shared through with other scenes of the
                thread; without it no other scene has them.

        Raises:
            ValueError: There is no such task, or the scene lacks a camera.
            UnverifiedVersionError: The engine is not proven for an installed version.
        """
        require_verified_versions()
        self.suite, self.task_id, self.spec = suite, task_id, spec
        self.num_steps_wait = num_steps_wait
        self._libero = LiberoEnv(bddl_file(suite, task_id))
        self._env, self._model = self._libero.domain, self._libero.model
        # Nothing reads the gripper's force sensors, and the physics do not depend on them.
        self._model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_SENSOR)
        self._renderer = Renderer(self._model, spec, drawing or SharedDrawing())
        release_unread(self._model)
        self._panda = Panda(self._env)
        self._slots = [self._make_slot() for _ in range(num_slots)]
        self._scratch = mujoco.MjData(self._model)
        self._observer = Observer(self._env, self._panda.site_id, self._renderer)
        self._steps = ControlSteps(self._env)
        self._settled = SettledStates(self._model, self._settle, max_kept=SETTLED_STATES)

    @property
    def language(self) -> str:
        """Return the instruction of the task."""
        return task_language(self.suite, self.task_id)

    @property
    def render_seconds(self) -> float:
        """Return the seconds spent on images for policies."""
        return self._observer.render_seconds

    @property
    def video_seconds(self) -> float:
        """Return the seconds spent on images for videos only."""
        return self._observer.video_seconds

    def restore(self, slot: int, initial_state: InitialState) -> Observation:
        """Bring a slot to a settled initial state.

        The result is that of ``env.seed(fixture_seed)``, ``env.reset()`` on a new LIBERO
        environment, ``env.set_init_state(state)`` and ``num_steps_wait`` settling steps.

        Args:
            slot: Which slot.
            initial_state: Where to start; must belong to this scene's task.

        Returns:
            What LIBERO's last call returned.

        Raises:
            ValueError: The state is not finite, or not one of this scene's task.
            DivergedError: The physics diverged while the state settled.
        """
        self._check_state(initial_state)
        target = self._slots[slot]
        self._settled.restore(target, initial_state)
        assert target.observation is not None
        return target.observation

    def is_settled(self, initial_state: InitialState) -> bool:
        """Return whether restoring this state is a copy of its cached settled state."""
        return initial_state in self._settled

    def execute(
        self,
        slot: int,
        actions: NDArray[np.float32],
        *,
        observe: bool = True,
        observe_when_solved: bool = True,
        video: bool = False,
    ) -> StepResult:
        """Run up to h control steps and stop at success.

        Args:
            slot: A slot that has been restored.
            actions: Float [h, 7]; LIBERO clips them to [-1, 1].
            observe: False draws nothing and reports no observation; the physics are the same.
            observe_when_solved: The same for a request that ends with the task solved.
            video: Draw every step as well, for a video; all else is the same.

        Returns:
            What the last executed step gave; a slot that has succeeded before executes nothing.

        Raises:
            ValueError: Wrong shape or a value that is not finite.
            DivergedError: The physics diverged; the slot must be restored, no other is affected.
        """
        check_actions(actions)
        target = self._slots[slot]
        if target.observation is None:
            raise ValueError(f"slot {slot} must be restored before it executes")
        self._steps.activate(target)
        num_steps, has_observed, frames = self._run(
            target, actions, observe=observe or video, video=video
        )
        self._steps.deactivate(target)
        observe = observe and (observe_when_solved or not target.is_success)
        if has_observed and observe:
            target.observation = self._observer.draw(target.proprio)
        if video and num_steps:
            is_drawn = observe or not has_observed
            frames.append(
                target.observation.images
                if is_drawn
                else self._observer.video(target, has_observed=True)
            )
        return StepResult(
            observation=target.observation if observe else None,
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
        self._steps.activate(target)
        # MuJoCo leaves poses one substep behind qpos; the slot's own must stay so.
        self._scratch.qpos[:] = target.data.qpos
        mujoco.mj_kinematics(self._model, self._scratch)
        return self._scratch.xpos[body_id].copy(), self._scratch.xquat[body_id].copy()

    def body_names(self) -> tuple[str, ...]:
        """Return the names of all bodies."""
        return tuple(self._env.sim.model.body_names)

    def physics_state(self, slot: int) -> NDArray[np.float64]:
        """Return time, qpos and qvel as LIBERO flattens them, float64 [n]."""
        data = self._slots[slot].data
        return np.concatenate([[data.time], data.qpos, data.qvel])

    def close(self) -> None:
        """Free the GL context and the model; safe to call twice."""
        self._renderer.close()
        self._slots.clear()
        self._settled.clear()

    def _run(
        self, target: Slot, actions: NDArray[np.float32], *, observe: bool, video: bool
    ) -> tuple[int, bool, list[NDArray[np.uint8]]]:
        """Run control steps until the task is solved or all are done.

        Returns:
            How many were run, whether one was observed, and for a video the images after all but the last.
        """
        num_steps, has_observed = 0, False
        frames: list[NDArray[np.uint8]] = []
        while num_steps < len(actions) and not target.is_success:
            if video and num_steps:
                frames.append(self._observer.video(target, has_observed=has_observed))
            is_last = num_steps == len(actions) - 1
            sample = partial(self._observer.sample, observe=observe, will_draw=is_last or video)
            has_observed |= self._steps.run(target, actions[num_steps], sample)
            num_steps += 1
            self._require_converged(target, actions[num_steps - 1], num_steps)
            target.is_success = bool(self._env._check_success())
            self._env._post_process()
        return num_steps, has_observed, frames

    def _settle(self, slot: Slot, initial_state: InitialState) -> None:
        self._steps.activate(slot)
        self._libero.reset(initial_state.fixture_seed)
        slot.controller.adopt(self._env.robots[0].controller)
        slot.is_success = False
        slot.clock = Clock()
        slot.clock.force(self._steps.timestep)
        self._set_state(slot, initial_state.state)
        for step in range(self.num_steps_wait):
            is_last = step == self.num_steps_wait - 1
            sample = partial(self._observer.sample, observe=True, will_draw=is_last)
            self._steps.run(slot, SETTLE_ACTION, sample)
            self._env._post_process()
        self._require_converged(slot, SETTLE_ACTION, 0)
        self._steps.deactivate(slot)
        slot.observation = self._observer.draw(slot.proprio)

    def _require_converged(self, slot: Slot, action: NDArray[np.floating], num_steps: int) -> None:
        """Raise ``DivergedError`` if MuJoCo has given up a slot's state, which it replaces by zeros."""
        if not any(slot.data.warning[kind].number for kind in DIVERGENCE):
            return
        values = ", ".join(map(str, action))  # as short as they can be read back exactly
        raise DivergedError(
            f"the physics of {self.suite} task {self.task_id} diverged "
            f"{'at' if num_steps else 'while settling with'} action [{values}]",
            num_steps=num_steps,
        )

    def _set_state(self, slot: Slot, state: NDArray[np.float64]) -> None:
        self._env.sim.set_state_from_flattened(state)
        self._env.sim.forward()
        self._env._check_success()
        self._env._post_process()
        slot.clock.force(self._steps.timestep)
        self._observer.sample(slot, observe=True, will_draw=self.num_steps_wait == 0)

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
