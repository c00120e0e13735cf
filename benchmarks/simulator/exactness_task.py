"""One task of the proof of exactness: the engine acts first, LIBERO's environment follows."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from libero.libero.envs.bddl_utils import robosuite_parse_problem
from numpy.typing import NDArray

from benchmarks.simulator.peer import CAMERAS, SETTLE_STEPS, LiberoPeer
from pi0.records import Observation, ObservationSpec
from pi0.ript.demos.experts.motion import Expert
from pi0.ript.demos.experts.pick_and_place import PickAndPlace
from pi0.ript.demos.experts.tables import EXPERTS
from pi0.ript.demos.experts.touch import TurnKnob
from pi0.ript.demos.record import ScenePoses
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.libero.scene import Scene
from pi0.ript.env.libero.slot import StepResult
from pi0.ript.env.suites import bddl_file
from pi0.ript.types import InitialState

NUM_SLOTS = 3
CHUNK = 10
NUM_RESTORES = 50
EXPERT_NOISE = 0.2
KNOB = "flat_stove_1_button"
STOVE_TASK = ("libero_10", 2)  # turning the stove on is only half of this task


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How one task compared.

    Attributes:
        suite: LIBERO suite.
        task_id: Task number within the suite.
        num_steps: Control steps compared.
        num_observations: Observations compared, each with two images.
        num_successes: Episodes that ended in success on both sides.
        is_burner_lit: Whether a stove was burning in some observation.
        states: Action chunks after which time, qpos or qvel differed.
        proprio: Observations whose proprioception differed.
        images: Observations whose images differed.
        flags: Control steps whose success differed.
        repeated: Action chunks that differed when an episode was repeated after 50 restores.
    """

    suite: str
    task_id: int
    num_steps: int = 0
    num_observations: int = 0
    num_successes: int = 0
    is_burner_lit: bool = False
    states: int = 0
    proprio: int = 0
    images: int = 0
    flags: int = 0
    repeated: int = 0

    @property
    def num_differences(self) -> int:
        """Return the differences of all kinds."""
        return self.states + self.proprio + self.images + self.flags + self.repeated


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Actions, float32 [h, 7], and what the engine made of them."""

    actions: NDArray[np.float32]
    result: StepResult
    state: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """An episode on the engine: its first observation, then action chunks."""

    start: InitialState
    observation: Observation
    state: NDArray[np.float64]
    executions: list[Execution]


def check_task(suite: str, task_id: int, *, num_steps: int, size: int) -> Verdict:
    """Compare three episodes of a task with LIBERO's environment."""
    spec = ObservationSpec(cameras=CAMERAS, height=size, width=size)
    peer = LiberoPeer(suite, task_id, size)
    scene = Scene(suite, task_id, spec, num_slots=NUM_SLOTS, num_steps_wait=SETTLE_STEPS)
    starts = [make_initial_state(suite, task_id, 7 * n, fixture_seed=n) for n in range(NUM_SLOTS)]
    if (suite, task_id) == STOVE_TASK:
        starts[-1] = _with_stove_on(starts[-1], peer)
    traces = run_interleaved(scene, starts, num_steps)
    verdict = Verdict(suite=suite, task_id=task_id, repeated=_repeat(scene, starts, traces[1]))
    for trace in traces:
        verdict = follow(peer, trace, verdict)
    scene.close()
    peer.close()
    return verdict


def run_interleaved(scene: Scene, starts: list[InitialState], num_steps: int) -> list[Trace]:
    """Run one episode per slot, with the next slot drawn at random after every action chunk."""
    rng = np.random.Generator(np.random.Philox(scene.task_id))
    traces = [
        Trace(start=s, observation=scene.restore(n, s), state=scene.physics_state(n), executions=[])
        for n, s in enumerate(starts)
    ]
    plans = {n: _plan(scene, n, num_steps) for n in range(len(starts))}
    while plans:
        slot = int(rng.choice(list(plans)))
        actions, observe = next(plans[slot])
        execution = _execute(scene, slot, actions, observe=observe)
        traces[slot].executions.append(execution)
        steps = sum(c.result.num_steps for c in traces[slot].executions)
        if execution.result.is_success or steps >= num_steps:
            del plans[slot]
    return traces


def _execute(scene: Scene, slot: int, actions: NDArray[np.float32], *, observe: bool) -> Execution:
    result = scene.execute(slot, actions, observe=observe)
    return Execution(actions=actions, result=result, state=scene.physics_state(slot))


def _plan(scene: Scene, slot: int, num_steps: int) -> Iterator[tuple[NDArray[np.float32], bool]]:
    """Yield (actions, whether to observe): slot 0 begins with the expert, 1 ends with it, 2 is random."""
    rng = np.random.Generator(np.random.Philox([scene.task_id, slot]))
    if slot > 0:
        for _ in range(num_steps // CHUNK // 3):
            yield _random_chunk(rng), True
    expert = _expert(scene)
    if slot < NUM_SLOTS - 1 and expert is not None:
        for number, action in enumerate(expert(ScenePoses(scene, slot)), start=1):
            noisy = action + EXPERT_NOISE * rng.standard_normal(7) * [1, 1, 1, 0.3, 0.3, 0.3, 0]
            yield np.clip(noisy, -1, 1)[None].astype(np.float32), number % CHUNK == 0
    while True:
        yield _random_chunk(rng), True


def _random_chunk(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a drift with jitter, float32 [10, 7], so that the arm travels and touches things."""
    drift, jitter = rng.normal(0, 0.6, (1, 7)), rng.normal(0, 0.3, (CHUNK, 7))
    return np.clip(drift + jitter, -1.2, 1.2).astype(np.float32)  # LIBERO clips to [-1, 1]


def _expert(scene: Scene) -> Expert | None:
    """Return the task's expert, or one that carries the first object of the task to the second."""
    key = (scene.suite, scene.task_id)
    if key in EXPERTS:
        return EXPERTS[key]
    if key == STOVE_TASK:
        return TurnKnob(knob=KNOB)
    names = robosuite_parse_problem(str(bddl_file(*key)))["obj_of_interest"]
    bodies = [f"{name}_main" for name in names if f"{name}_main" in scene.body_names()]
    return PickAndPlace(item=bodies[0], goal=bodies[-1]) if bodies else None


def _with_stove_on(start: InitialState, peer: LiberoPeer) -> InitialState:
    """Return the situation with the stove's knob turned by hand; qpos starts after the time."""
    state = start.state.copy()
    state[1 + peer.model.joint(KNOB).qposadr[0]] = 1.0
    return replace(start, index=-1, state=state)


def _repeat(scene: Scene, starts: list[InitialState], trace: Trace, slot: int = 1) -> int:
    """Restore one slot many times, repeat an episode in it and count action chunks that differ."""
    for number in range(NUM_RESTORES):
        scene.restore(slot, starts[number % len(starts)])
    differences = int(not _same_observation(scene.restore(slot, trace.start), trace.observation))
    for was in trace.executions:
        again = _execute(scene, slot, was.actions, observe=was.result.observation is not None)
        equal = np.array_equal(again.state, was.state)
        equal &= again.result.is_success == was.result.is_success
        if again.result.observation is not None and was.result.observation is not None:
            equal &= _same_observation(again.result.observation, was.result.observation)
        differences += not equal
    return differences


def _same_observation(mine: Observation, theirs: Observation) -> bool:
    pairs = ((mine.images, theirs.images), (mine.proprio, theirs.proprio))
    return all(np.array_equal(a, b) for a, b in pairs)


def follow(peer: LiberoPeer, trace: Trace, verdict: Verdict) -> Verdict:
    """Take the same actions in LIBERO's environment and add what differs to the verdict."""
    verdict = _compare_observation(verdict, trace.observation, peer.start(trace.start))
    verdict = _compare_state(verdict, trace.state, peer)
    for execution in trace.executions:
        result = execution.result
        mine, theirs = result.observation, None
        for number, action in enumerate(execution.actions[: result.num_steps], start=1):
            is_last = number == result.num_steps
            peer.is_drawing = is_last and mine is not None
            theirs, done = peer.step(action)
            wrong = done != (is_last and result.is_success)
            verdict = replace(verdict, num_steps=verdict.num_steps + 1, flags=verdict.flags + wrong)
        verdict = _compare_state(verdict, execution.state, peer)
        if mine is not None and theirs is not None:
            verdict = _compare_observation(verdict, mine, theirs)
        verdict = replace(verdict, is_burner_lit=verdict.is_burner_lit or peer.is_burner_lit())
    ended = trace.executions[-1].result.is_success
    return replace(verdict, num_successes=verdict.num_successes + ended)


def _compare_state(verdict: Verdict, state: NDArray[np.float64], peer: LiberoPeer) -> Verdict:
    wrong = not np.array_equal(state, peer.physics_state())
    return replace(verdict, states=verdict.states + wrong)


def _compare_observation(verdict: Verdict, mine: Observation, theirs: Observation) -> Verdict:
    return replace(
        verdict,
        num_observations=verdict.num_observations + 1,
        proprio=verdict.proprio + (not np.array_equal(mine.proprio, theirs.proprio)),
        images=verdict.images + (not np.array_equal(mine.images, theirs.images)),
    )
