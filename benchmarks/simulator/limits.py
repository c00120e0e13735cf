"""An estimate of the least that an episode takes: physics, images and policy forwards, and nothing else.

Everything is timed on the very episodes that the sides of the comparison run first: physics on several,
because contacts make one episode dearer than another, images on one.
"""

# pyright: reportAttributeAccessIssue=false

import statistics
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from benchmarks.parts.measure import interleaved, seconds
from benchmarks.simulator.images import PlainRenderer
from benchmarks.simulator.job import BATCH_SIZE, SAMPLING, FirstCameraPolicy, Job
from benchmarks.simulator.peer import LiberoPeer
from pi0.records import Observation, ObservationSpec
from pi0.ript.env.libero.renderer import Renderer
from pi0.ript.env.libero.shared_drawing import SharedDrawing
from pi0.ript.seeding import derive_seed
from pi0.ript.types import EpisodeRequest

SUBSTEPS = 25  # of 2 ms, in a control step of 50 ms
STATE_KIND = int(mujoco.mjtState.mjSTATE_INTEGRATION)
RENDER_EVERY = 10
NUM_EPISODES = 4


def measure_limits(job: Job, specs: Mapping[str, ObservationSpec], rounds: int) -> dict[str, Any]:
    """Measure the unavoidable parts of an episode.

    Args:
        job: Whose first requests are the episodes.
        specs: Named ways of drawing.
        rounds: Samples per part; medians count.

    Returns:
        Seconds: ``physics_s`` per control step, ``policy_s`` per policy step in a full batch,
        ``check_s`` per success check, and by name per observation of all cameras ``mujoco_render_s`` with
        one ``mjr_render`` and ``mjr_readPixels`` each, ``render_s`` with those or with the engine's
        renderer, whichever takes less.
    """
    policy = FirstCameraPolicy(job.spec, job.chunk)
    peer = LiberoPeer(job.suite, job.task_id, job.size)
    runs = [_episode(peer, policy, request) for request in job.requests()[:NUM_EPISODES]]
    states, observation = runs[0]
    model = peer.model
    visited = [state for some_states, _ in runs for state in some_states]
    physics = [_physics_seconds(model, visited) for _ in range(rounds)]
    act = [seconds(lambda: _act(policy, [observation] * BATCH_SIZE)) for _ in range(3 * rounds)]
    check = [seconds(peer.check_success) for _ in range(20 * rounds)]
    render = {name: _render_seconds(model, spec, states, rounds) for name, spec in specs.items()}
    peer.close()
    return {
        "physics_s": statistics.median(physics),
        "policy_s": statistics.median(act) / BATCH_SIZE,
        "check_s": statistics.median(check),
        "mujoco_render_s": {name: seconds["mujoco"] for name, seconds in render.items()},
        "render_s": {name: min(seconds.values()) for name, seconds in render.items()},
    }


def _act(
    policy: FirstCameraPolicy, observations: list[Observation], seed: int = 0
) -> NDArray[np.float32]:
    chunks = policy.act(
        observations, [""] * len(observations), [seed] * len(observations), SAMPLING
    )
    return chunks[0].actions


def _episode(
    peer: LiberoPeer, policy: FirstCameraPolicy, request: EpisodeRequest
) -> tuple[list[NDArray[np.float64]], Observation]:
    """Run a request and return the full physics state after every control step."""
    observation, states = peer.start(request.initial_state), []
    while len(states) < request.max_steps:
        seed = derive_seed(request.seed, len(states) // RENDER_EVERY)
        for index, action in enumerate(_act(policy, [observation], seed)):
            peer.is_drawing = index == RENDER_EVERY - 1
            observation, _ = peer.step(action)
            states.append(peer.integration_state())
    return states, observation


def _physics_seconds(model: Any, states: list[NDArray[np.float64]]) -> float:
    """Return the mean seconds of 25 ``mj_step`` over the states of the episodes."""
    # The physics do not need the gripper's force sensors, nor does the policy.
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_SENSOR)
    data, total = mujoco.MjData(model), 0.0
    for state in states:
        mujoco.mj_setState(model, data, state, STATE_KIND)
        total += seconds(lambda: mujoco.mj_step(model, data, nstep=SUBSTEPS))
    return total / len(states)


def _render_seconds(
    model: Any, spec: ObservationSpec, states: list[NDArray[np.float64]], rounds: int
) -> dict[str, float]:
    """Return the seconds of one observation with all cameras, by MuJoCo's own calls and by the engine."""
    engine = Renderer(
        model, spec, SharedDrawing()
    )  # adapts model.vis, which plain rendering then uses too
    plain = PlainRenderer(model, spec)
    poses = [_posed(model, state) for state in states[RENDER_EVERY - 1 :: 2 * RENDER_EVERY]]
    for data in poses:
        engine.update_scene(data, cull=True)
        np.testing.assert_array_equal(engine.render(), plain.render(data))

    def engine_sample() -> float:
        return seconds(
            lambda: [(engine.update_scene(data, cull=True), engine.render()) for data in poses]
        )

    def plain_sample() -> float:
        return seconds(lambda: [plain.render(data) for data in poses])

    samples = interleaved({"engine": engine_sample, "mujoco": plain_sample}, rounds)
    engine.close()
    plain.close()
    return {name: statistics.median(side) / len(poses) for name, side in samples.items()}


def _posed(model: Any, state: NDArray[np.float64]) -> Any:
    data = mujoco.MjData(model)
    mujoco.mj_setState(model, data, state, STATE_KIND)
    mujoco.mj_forward(model, data)
    return data
