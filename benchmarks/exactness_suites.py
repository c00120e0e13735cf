"""Proof, task by task of every suite, that the engine equals LIBERO's own ``OffScreenRenderEnv`` bit for bit.

    python benchmarks/exactness_suites.py --output outputs/benchmarks/exactness_suites.jsonl
    python benchmarks/exactness_suites.py --output outputs/benchmarks/exactness_suites.jsonl --summary

Every task: one initial state with fixture poses of its own, settled, then 30 control steps in which the hand
drives into the first object of the task. Time, positions and velocities are compared after every step, both
256 px images and the proprioception at the beginning and at the end. Four scenes of a process are open at a time and
share textures and meshes, as those of a worker do. One line of JSON per task; what is in
the file is not measured again, so the program goes on where it was stopped. Status 1 on any difference.
"""

import argparse
import gc
import json
import os
import sys
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import zip_longest
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

from libero.libero.envs.bddl_utils import robosuite_parse_problem

from benchmarks.parts.measure import output_file, table
from benchmarks.simulator.peer import CAMERAS, SETTLE_STEPS, LiberoPeer
from pi0.records import Observation, ObservationSpec
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.libero.scene import Scene
from pi0.ript.env.libero.shared_drawing import SharedDrawing
from pi0.ript.env.libero.versions import VERIFIED, installed_version
from pi0.ript.env.suites import all_tasks, bddl_file, suite_names

SIZE = 256
NUM_STEPS = 30
NUM_INDICES = 50
TASKS_PER_PROCESS = 10  # LIBERO's environments leave memory behind
METERS_PER_ACTION = 0.05
NUM_SCENES = 4  # that a process keeps open

_drawing, _scenes = SharedDrawing(), deque[Scene]()


@dataclass(frozen=True, kw_only=True)
class TaskVerdict:
    """How one task compared.

    Attributes:
        suite: LIBERO suite.
        task_id: Task number within the suite.
        num_steps: Control steps compared.
        touching: Control steps after which the robot touched something.
        states: Control steps after which time, qpos or qvel differed.
        proprio: Of two observations, how many differed in proprioception.
        images: Of four images, how many differed.
        flags: Control steps whose success differed.
        seconds: What it took.
        versions: Of the simulator's packages.
        error: Why it could not be compared; empty if it was.
    """

    suite: str
    task_id: int
    num_steps: int = 0
    touching: int = 0
    states: int = 0
    proprio: int = 0
    images: int = 0
    flags: int = 0
    seconds: float = 0.0
    versions: dict[str, str]
    error: str = ""

    @property
    def is_equal(self) -> bool:
        """Return whether it was compared and nothing differed."""
        return not (self.error or self.states or self.proprio or self.images or self.flags)


def check_task(suite: str, task_id: int) -> TaskVerdict:
    """Compare one episode of a task with LIBERO's environment."""
    started = time.perf_counter()
    try:
        counts: dict[str, Any] = _compare(suite, task_id)
    except (RuntimeError, ValueError, AssertionError, KeyError) as error:
        counts = {"error": f"{type(error).__name__}: {error}"}
    gc.collect()
    versions = {name: installed_version(name) for name in (*VERIFIED, "numpy", "numba")}
    seconds = round(time.perf_counter() - started, 1)
    return TaskVerdict(suite=suite, task_id=task_id, seconds=seconds, versions=versions, **counts)


def _compare(suite: str, task_id: int) -> dict[str, int]:
    spec = ObservationSpec(cameras=CAMERAS, height=SIZE, width=SIZE)
    start = make_initial_state(suite, task_id, task_id % NUM_INDICES, fixture_seed=task_id)
    names = ("num_steps", "touching", "states", "proprio", "images", "flags")
    counts: dict[str, int] = dict.fromkeys(names, 0)
    with closing(LiberoPeer(suite, task_id, SIZE)) as peer:
        scene = _open_scene(suite, task_id, spec)
        mine, theirs = scene.restore(0, start), peer.start(start)
        _compare_observations(counts, mine, theirs)
        target = _target(scene)
        hand = mine.proprio[:3]
        for number in range(1, NUM_STEPS + 1):
            is_last = number == NUM_STEPS
            action = _towards(target, hand)
            result = scene.execute(0, action[None], observe=is_last)
            if not result.num_steps:
                break  # solved before
            peer.is_drawing = is_last
            theirs, done = peer.step(action)
            hand = theirs.proprio[:3]
            counts["num_steps"] += 1
            counts["flags"] += done != result.is_success
            counts["states"] += not np.array_equal(scene.physics_state(0), peer.physics_state())
            counts["touching"] += peer.is_touched()
            if is_last and result.observation is not None:
                _compare_observations(counts, result.observation, theirs)
    return counts


def _open_scene(suite: str, task_id: int, spec: ObservationSpec) -> Scene:
    """Return a scene beside those of the tasks before, which draw with the same textures and meshes."""
    if len(_scenes) == NUM_SCENES:
        _scenes.popleft().close()
    scene = Scene(suite, task_id, spec, num_slots=1, num_steps_wait=SETTLE_STEPS, drawing=_drawing)
    _scenes.append(scene)
    return scene


def _target(scene: Scene) -> NDArray[np.float64]:
    """Return where the first object of the task is, float64 [3] (m); the table's middle if it has no body."""
    names = robosuite_parse_problem(str(bddl_file(scene.suite, scene.task_id)))["obj_of_interest"]
    bodies = [f"{name}_main" for name in names if f"{name}_main" in scene.body_names()]
    return scene.body_pose(0, bodies[0])[0] if bodies else np.zeros(3)


def _towards(target: NDArray[np.float64], hand: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return an action, float32 [7], that drives the closing hand straight at a point."""
    move = np.clip((target - hand) / METERS_PER_ACTION * 3, -1, 1)
    return np.array([*move, 0, 0, 0, 1], dtype=np.float32)


def _compare_observations(counts: dict[str, int], mine: Observation, theirs: Observation) -> None:
    counts["proprio"] += not np.array_equal(mine.proprio, theirs.proprio)
    pairs = zip(mine.images, theirs.images, strict=True)
    counts["images"] += sum(not np.array_equal(a, b) for a, b in pairs)


def read_verdicts(path: Path) -> list[TaskVerdict]:
    """Return what a file holds; a line that was being written when the program ended is left out."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [TaskVerdict(**json.loads(line)) for line in lines]


def measure(path: Path, suites: Sequence[str]) -> None:
    """Compare all tasks of some suites that a file does not have yet, and add a line for each.

    Suites take turns, so that a program that is stopped early has seen something of each.
    """
    known = {(v.suite, v.task_id) for v in read_verdicts(path)}
    turns = zip_longest(*(all_tasks(suite) for suite in suites))
    tasks = [task for turn in turns for task in turn if task is not None and task not in known]
    os.environ["LP_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    for first in range(0, len(tasks), TASKS_PER_PROCESS):
        batch = tasks[first : first + TASKS_PER_PROCESS]
        with ProcessPoolExecutor(1, get_context("spawn")) as pool, path.open("a") as file:
            for verdict in pool.map(check_task, *zip(*batch, strict=True)):
                file.write(json.dumps(asdict(verdict)) + "\n")
                file.flush()


def summarize(verdicts: Sequence[TaskVerdict]) -> str:
    """Return a table with one line per suite, and a line for every task that is not equal."""
    suites: dict[str, list[TaskVerdict]] = defaultdict(list)
    for verdict in verdicts:
        suites[verdict.suite].append(verdict)
    header = (
        "suite",
        "tasks",
        "equal",
        "control steps",
        "touching",
        "states differ",
        "images differ",
    )
    rows = [
        (suite, len(found), sum(v.is_equal for v in found), sum(v.num_steps for v in found),
         sum(v.touching for v in found), sum(v.states for v in found), sum(v.images for v in found))
        for suite, found in suites.items()
    ]  # fmt: skip
    others = [f"{v.suite} {v.task_id}: {v.error or asdict(v)}" for v in verdicts if not v.is_equal]
    return "\n".join([table(header, rows), *others])


def main() -> int:
    """Run the proof, or only print what a file holds."""
    parser = argparse.ArgumentParser(description="Engine against LIBERO's environment, every task")
    parser.add_argument("--output", type=output_file, required=True, help="a line of JSON per task")
    parser.add_argument("--suites", default=",".join(suite_names()), help="by default all")
    parser.add_argument("--summary", action="store_true", help="measure nothing, print the table")
    arguments = parser.parse_args()
    suites = arguments.suites.split(",")
    if unknown := sorted(set(suites) - set(suite_names())):
        parser.error(f"--suites {','.join(unknown)}: allowed: {', '.join(suite_names())}")
    if not arguments.summary:
        measure(arguments.output, suites)
    verdicts = read_verdicts(arguments.output)
    print(summarize(verdicts))
    return 0 if all(v.is_equal for v in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
