"""The lower bound of an episode: physics, pictures and policy forwards, and nothing else.

Everything is timed on the very episode that the sides of the comparison run first.
"""

# pyright: reportAttributeAccessIssue=false

import statistics
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray
from robosuite.utils.binding_utils import GLContext

from benchmarks.job import BATCH_SIZE, SAMPLING, FirstCameraPolicy, Job
from benchmarks.measure import interleaved, seconds
from benchmarks.peer import LiberoPeer
from pi0.records import Observation, ObservationSpec
from pi0.ript.env.renderer import MAX_GEOMS, Renderer
from pi0.ript.seeding import derive_seed

SUBSTEPS = 25  # of 2 ms, in a control step of 50 ms
STATE_KIND = int(mujoco.mjtState.mjSTATE_INTEGRATION)
RENDER_EVERY = 10


def measure_limits(
    job: Job, specs: Mapping[str, ObservationSpec], rounds: int
) -> dict[str, dict[str, float] | float]:
    """Measure the unavoidable parts of one episode.

    Args:
        job: Whose first request is the episode.
        specs: Named ways of drawing.
        rounds: Samples per part; medians count.

    Returns:
        Seconds: ``physics_s`` per control step, ``policy_s`` per decision in a full batch,
        ``check_s`` per success check, ``render_s`` by name per look of all cameras: MuJoCo's own
        calls or the engine's, whichever takes less.
    """
    policy = FirstCameraPolicy(job.spec)
    peer = LiberoPeer(job.suite, job.task_id, job.size)
    states, look = _episode(peer, policy, job)
    model = peer.model
    physics = [_physics_seconds(model, states) for _ in range(rounds)]
    act = [seconds(lambda: _act(policy, [look] * BATCH_SIZE)) for _ in range(3 * rounds)]
    check = [seconds(peer.check_success) for _ in range(20 * rounds)]
    render = {name: _render_seconds(model, spec, states, rounds) for name, spec in specs.items()}
    peer.close()
    return {
        "physics_s": statistics.median(physics),
        "policy_s": statistics.median(act) / BATCH_SIZE,
        "check_s": statistics.median(check),
        "render_s": render,
    }


def _act(policy: FirstCameraPolicy, looks: list[Observation], seed: int = 0) -> NDArray[np.float32]:
    chunks = policy.act(looks, [""] * len(looks), [seed] * len(looks), SAMPLING)
    return chunks[0].actions


def _episode(
    peer: LiberoPeer, policy: FirstCameraPolicy, job: Job
) -> tuple[list[NDArray[np.float64]], Observation]:
    """Run the first request and return the full physics state after every control step."""
    request = job.requests()[0]
    look, states = peer.start(request.initial_state), []
    while len(states) < job.max_steps:
        seed = derive_seed(request.seed, len(states) // RENDER_EVERY)
        for index, action in enumerate(_act(policy, [look], seed)):
            peer.is_drawing = index == RENDER_EVERY - 1
            look, _ = peer.step(action)
            states.append(peer.integration_state())
    return states, look


def _physics_seconds(model: Any, states: list[NDArray[np.float64]]) -> float:
    """Return the mean seconds of 25 ``mj_step`` over the states of an episode."""
    data, total = mujoco.MjData(model), 0.0
    for state in states:
        mujoco.mj_setState(model, data, state, STATE_KIND)
        total += seconds(lambda: mujoco.mj_step(model, data, nstep=SUBSTEPS))
    return total / len(states)


def _render_seconds(
    model: Any, spec: ObservationSpec, states: list[NDArray[np.float64]], rounds: int
) -> float:
    """Return the seconds of one look with all cameras: MuJoCo's own calls or the engine's."""
    engine = Renderer(model, spec)  # adapts model.vis, which plain rendering then uses too
    plain = PlainRenderer(model, spec)
    poses = [_posed(model, state) for state in states[RENDER_EVERY - 1 :: 2 * RENDER_EVERY]]
    for data in poses:
        engine.look(data)
        np.testing.assert_array_equal(engine.render(), plain.render(data))

    def engine_sample() -> float:
        return seconds(lambda: [(engine.look(data), engine.render()) for data in poses])

    def plain_sample() -> float:
        return seconds(lambda: [plain.render(data) for data in poses])

    samples = interleaved({"engine": engine_sample, "plain": plain_sample}, rounds)
    engine.close()
    plain.close()
    return min(statistics.median(side) for side in samples.values()) / len(poses)


def _posed(model: Any, state: NDArray[np.float64]) -> Any:
    data = mujoco.MjData(model)
    mujoco.mj_setState(model, data, state, STATE_KIND)
    mujoco.mj_forward(model, data)
    return data


class PlainRenderer:
    """One ``mjr_render`` and one ``mjr_readPixels`` per camera, and nothing around them."""

    def __init__(self, model: Any, spec: ObservationSpec) -> None:
        """Create a GL context of the size and quality that ``model.vis`` says."""
        self._model, self._spec = model, spec
        self._gl = GLContext(max_width=spec.width, max_height=spec.height, device_id=-1)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=MAX_GEOMS)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = spec.quality == "exact"
        self._options = mujoco.MjvOption()
        self._options.geomgroup[0], self._options.geomgroup[1] = 0, 1
        self._view = mujoco.MjrRect(0, 0, spec.width, spec.height)

    def render(self, data: Any) -> NDArray[np.uint8]:
        """Draw all cameras, uint8 [N, height, width, 3]."""
        self._gl.make_current()
        spec = self._spec
        images = np.empty((len(spec.cameras), spec.height, spec.width, 3), np.uint8)
        for name, image in zip(spec.cameras, images, strict=True):
            camera = mujoco.MjvCamera()
            camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
            camera.fixedcamid = self._model.camera(name).id
            mujoco.mjv_updateScene(
                self._model, data, self._options, mujoco.MjvPerturb(), camera,
                int(mujoco.mjtCatBit.mjCAT_ALL), self._scene,
            )  # fmt: skip
            mujoco.mjr_render(self._view, self._scene, self._context)
            mujoco.mjr_readPixels(image, None, self._view, self._context)
        return images

    def close(self) -> None:
        """Free the context."""
        self._gl.make_current()
        self._context.free()
        self._gl.free()
