"""LIBERO's own environment, set up so that it can be compared with the engine step by step."""

# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
from libero.libero.envs import OffScreenRenderEnv
from libero.libero.envs.env_wrapper import ControlEnv
from numpy.typing import NDArray

from pi0.records import Observation
from pi0.ript.env.suites import bddl_file
from pi0.ript.types import InitialState

CAMERAS = ("agentview", "robot0_eye_in_hand")
PROPRIO = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
SETTLE_ACTION = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SETTLE_STEPS = 10

RawObservation = Mapping[str, Any]


class RepeatableEnv(OffScreenRenderEnv):
    """LIBERO's environment whose every reset draws what the first reset of a new one draws.

    LIBERO appends the task's joint initializers to its list again on every reset, so that the same
    seed gives other fixture poses the next time.
    """

    def reset(self) -> RawObservation:
        """Reset as LIBERO does, with one set of joint initializers."""
        kinds = {(type(i), i.name): i for i in self.env.object_property_initializers}
        self.env.object_property_initializers = list(kinds.values())
        return super().reset()


def make_env(suite: str, task_id: int, size: int) -> RepeatableEnv:
    """Return LIBERO's environment of a task with both cameras at ``size`` x ``size`` pixels."""
    return RepeatableEnv(
        bddl_file_name=str(bddl_file(suite, task_id)),
        camera_heights=size,
        camera_widths=size,
        camera_names=list(CAMERAS),
    )


def make_env_without_images(suite: str, task_id: int) -> ControlEnv:
    """Return LIBERO's environment of a task without cameras and without a GL context."""
    return ControlEnv(
        bddl_file_name=str(bddl_file(suite, task_id)),
        use_camera_obs=False,
        has_offscreen_renderer=False,
    )


def begin_episode(env: ControlEnv, start: InitialState) -> RawObservation:
    """Seed, reset, set the state and settle; return what the last step returned."""
    env.seed(start.fixture_seed)
    env.reset()
    raw = env.set_init_state(start.state)
    for _ in range(SETTLE_STEPS):
        raw, *_ = env.step(SETTLE_ACTION)
    return raw


def observation(raw: RawObservation) -> Observation:
    """Return LIBERO's observation as the engine's record; images in the order of ``CAMERAS``."""
    return Observation(
        images=np.stack([raw[f"{camera}_image"] for camera in CAMERAS]),
        proprio=np.concatenate([raw[name] for name in PROPRIO]),
    )


class LiberoPeer:
    """LIBERO's environment beside the engine in one process, episode by episode.

    Example: ``peer = LiberoPeer("libero_goal", 7, size=64)``, ``peer.start(state)``,
    ``observation, done = peer.step(action)``; ``peer.close()`` at the end.
    """

    def __init__(self, suite: str, task_id: int, size: int) -> None:
        """Build the environment (1.5 to 8 s)."""
        self._env = make_env(suite, task_id, size)
        self._blank = np.zeros((size, size, 3), dtype=np.uint8)
        self.is_drawing = True

    def start(self, initial_state: InitialState, num_steps_wait: int = SETTLE_STEPS) -> Observation:
        """Seed, reset, set the state and settle; return what LIBERO's last call returned."""
        self._make_current()
        self._env.seed(initial_state.fixture_seed)
        self._env.reset()
        self._let_drawing_be_skipped()
        self.is_drawing = num_steps_wait == 0
        raw = self._env.set_init_state(initial_state.state)
        for steps_left in reversed(range(num_steps_wait)):
            self.is_drawing = steps_left == 0  # only the last observation is handed out
            raw, _, _, _ = self._env.step(SETTLE_ACTION)
        return observation(raw)

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, bool]:
        """Return what ``env.step`` returned; its images are black where ``is_drawing`` is False."""
        self._make_current()
        raw, _, done, _ = self._env.step(action)
        return observation(raw), bool(done)

    def physics_state(self) -> NDArray[np.float64]:
        """Return time, qpos and qvel, float64 [n]."""
        data = self._env.sim.data
        return np.concatenate([[data.time], data.qpos, data.qvel])

    @property
    def model(self) -> Any:
        """Return the compiled MuJoCo model; a reset replaces it."""
        return self._env.sim.model._model  # noqa: SLF001

    def integration_state(self) -> NDArray[np.float64]:
        """Return everything MuJoCo's next step depends on, float64 [m]."""
        kind, data = int(mujoco.mjtState.mjSTATE_INTEGRATION), self._env.sim.data._data  # noqa: SLF001
        state = np.empty(mujoco.mj_stateSize(self.model, kind))
        mujoco.mj_getState(self.model, data, state, kind)
        return state

    def check_success(self) -> bool:
        """Return whether the task's condition holds, and let the task repaint its model."""
        is_success = bool(self._env.check_success())
        self._env._post_process()  # noqa: SLF001
        return is_success

    def is_burner_lit(self) -> bool:
        """Return whether a stove burns: tasks then make the burner's site visible on the model."""
        model = self.model
        names = [model.site(number).name for number in range(model.nsite)]
        return any(
            model.site_rgba[number][3] > 0 for number, name in enumerate(names) if "burner" in name
        )

    def is_touched(self) -> bool:
        """Return whether the robot or its gripper touches anything but itself."""
        model, contacts = self.model, self._env.sim.data.contact
        bodies = ((model.geom_bodyid[c.geom1], model.geom_bodyid[c.geom2]) for c in contacts)
        return any(len({_is_robot(model.body(n).name) for n in pair}) == 2 for pair in bodies)

    def close(self) -> None:
        """Free the environment and its GL context."""
        self._make_current()
        self._env.close()

    def _make_current(self) -> None:
        # robosuite assumes that its own GL context is the only one of the process.
        self._env.sim._render_context_offscreen.gl_ctx.make_current()  # noqa: SLF001

    def _let_drawing_be_skipped(self) -> None:
        # Cameras stay switched on and keep sampling, only the drawing itself is left out.
        draw = self._env.sim.render

        def render(*args: Any, **rest: Any) -> NDArray[np.uint8]:
            return draw(*args, **rest) if self.is_drawing else self._blank

        self._env.sim.render = render


def _is_robot(body: str) -> bool:
    return body.startswith(("robot0", "gripper0"))
