"""What the engine's parts cost beside robosuite's and LIBERO's own: steps, restores, images, memory.

    python benchmarks/engine.py --quick --json outputs/benchmarks/engine.json
    python benchmarks/engine.py --memory

Sides that are compared are measured in turns in one process, with one thread each as in the
engine's workers; medians are compared.
"""

# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

import argparse
import os
import statistics
import sys
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

import mujoco
import numpy as np

from benchmarks.memory import FEW_SLOTS, MANY_SLOTS, measure_growth, measure_slots
from benchmarks.parts.measure import (
    add_output_arguments,
    interleaved,
    median_ratio,
    seconds,
    table,
    write_json,
)
from benchmarks.simulator.images import measure_parts
from benchmarks.simulator.peer import (
    CAMERAS,
    SETTLE_STEPS,
    LiberoPeer,
    begin_episode,
    make_env,
    make_env_without_images,
)
from pi0.records import ObservationSpec, RenderQuality
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.libero.scene import Scene

TASKS = (("libero_goal", 7), ("libero_10", 2), ("libero_object", 0))
NUM_QUICK = 2
CHUNK = 10
SPEC = ObservationSpec(cameras=CAMERAS, height=256, width=256)
SMALL_SPEC = ObservationSpec(cameras=CAMERAS, height=8, width=8, quality="fast")


def measure_steps(suite: str, task_id: int, rounds: int) -> dict[str, float]:
    """Compare control steps without images; both sides take the same actions."""
    env = make_env_without_images(suite, task_id)
    scene = Scene(suite, task_id, SMALL_SPEC, num_slots=1, num_steps_wait=SETTLE_STEPS)
    start = make_initial_state(suite, task_id, 0, fixture_seed=0)
    begin_episode(env, start)
    scene.restore(0, start)
    rng = np.random.Generator(np.random.Philox(0))
    actions = np.clip(rng.normal(0, 0.5, (rounds, CHUNK, 7)), -1, 1).astype(np.float32)
    chunks = {"robosuite": iter(actions), "engine": iter(actions)}

    def robosuite_sample() -> float:
        chunk = next(chunks["robosuite"])
        return seconds(lambda: [env.step(action) for action in chunk]) / CHUNK

    def engine_sample() -> float:
        chunk = next(chunks["engine"])
        return seconds(lambda: scene.execute(0, chunk, observe=False)) / CHUNK

    samples = interleaved({"robosuite": robosuite_sample, "engine": engine_sample}, rounds)
    data = env.sim.data
    theirs = np.concatenate([[data.time], data.qpos, data.qvel])
    np.testing.assert_array_equal(scene.physics_state(0), theirs)
    model, raw = env.sim.model._model, env.sim.data._data  # noqa: SLF001
    alone = [seconds(partial(mujoco.mj_step, model, raw, nstep=25)) for _ in range(rounds)]
    scene.close()
    env.close()
    medians = {f"{name}_s": statistics.median(values) for name, values in samples.items()}
    return {
        **medians,
        "mj_step_alone_s": statistics.median(alone),
        "speedup": median_ratio(samples["robosuite"], samples["engine"]),
    }


def measure_restores(suite: str, task_id: int, rounds: int) -> dict[str, float]:
    """Compare restoring, settling included: LIBERO's calls, a new state, a known one."""
    env = make_env(suite, task_id, SPEC.width)
    scene = Scene(suite, task_id, SPEC, num_slots=1, num_steps_wait=SETTLE_STEPS)
    known = make_initial_state(suite, task_id, 0, fixture_seed=0)
    scene.restore(0, known)
    seeds = count(1)
    drawing: list[float] = []

    def libero_sample() -> float:
        env.sim._render_context_offscreen.gl_ctx.make_current()  # noqa: SLF001
        return seconds(lambda: begin_episode(env, known))

    def cold_sample() -> float:
        unknown = make_initial_state(suite, task_id, 0, fixture_seed=next(seeds))
        before = scene.render_seconds
        duration = seconds(lambda: scene.restore(0, unknown))
        drawing.append(scene.render_seconds - before)
        return duration

    sides = {
        "libero": libero_sample,
        "cold": cold_sample,
        "cached": lambda: seconds(lambda: scene.restore(0, known)),
    }
    samples = interleaved(sides, rounds)
    samples["undrawn"] = [
        all_in - drawn for all_in, drawn in zip(samples["cold"], drawing, strict=True)
    ]
    scene.close()
    env.sim._render_context_offscreen.gl_ctx.make_current()  # noqa: SLF001
    env.close()
    return {
        **{f"{name}_s": statistics.median(values) for name, values in samples.items()},
        "speedup_cold": median_ratio(samples["libero"], samples["cold"]),
        "speedup_undrawn": median_ratio(samples["libero"], samples["undrawn"]),
        "speedup_cached": median_ratio(samples["libero"], samples["cached"]),
    }


def measure_images(rounds: int) -> dict[str, dict[str, float]]:
    """Return what MuJoCo's parts of one image cost, by camera, size and quality."""
    suite, task_id = TASKS[0]
    peer = LiberoPeer(suite, task_id, SPEC.width)
    peer.start(make_initial_state(suite, task_id, 0, fixture_seed=0), num_steps_wait=0)
    data = mujoco.MjData(peer.model)
    data.qpos[:] = peer.physics_state()[1 : 1 + peer.model.nq]
    mujoco.mj_forward(peer.model, data)
    kinds: tuple[tuple[RenderQuality, int], ...] = (("exact", 256), ("fast", 256), ("fast", 96))
    specs = [
        ObservationSpec(cameras=(camera,), height=size, width=size, quality=quality)
        for quality, size in kinds
        for camera in CAMERAS
    ]
    found = measure_parts(peer.model, data, specs, rounds)
    peer.close()
    return found


def report(found: dict[str, Any]) -> None:
    """Print the measurements as tables."""
    if "steps" in found:
        rows = [
            [task, *(f"{1e3 * s[f'{k}_s']:.2f}" for k in ("robosuite", "engine", "mj_step_alone")),
             f"{s['speedup']:.2f} x"]
            for task, s in found["steps"].items()
        ]  # fmt: skip
        header = (
            "control step without images, ms",
            "robosuite",
            "engine",
            "25 mj_step",
            "speed-up",
        )
        print(table(header, rows) + "\n")
        r = found["restore"]
        rows = [
            ["reset, set_init_state, 10 steps", f"{1e3 * r['libero_s']:.1f}", ""],
            ["engine, new state", f"{1e3 * r['cold_s']:.1f}", f"{r['speedup_cold']:.0f} x"],
            ["engine, the same without its two images", f"{1e3 * r['undrawn_s']:.1f}",
             f"{r['speedup_undrawn']:.0f} x"],
            ["engine, known state", f"{1e3 * r['cached_s']:.2f}", f"{r['speedup_cached']:.0f} x"],
        ]  # fmt: skip
        print(table(("restore, settling included", "ms", "speed-up"), rows) + "\n")
        rows = [
            [name, *(f"{1e3 * value:.2f}" for value in parts.values()),
             f"{1e3 * sum(parts.values()):.1f}"]
            for name, parts in found["images"].items()
        ]  # fmt: skip
        print(table(("one image by MuJoCo, ms", "update", "draw", "read", "sum"), rows) + "\n")
    if "memory" in found:
        m = found["memory"]
        rows = [
            [f"two workers, {FEW_SLOTS} slots, MB", m[f"workers_mb_{FEW_SLOTS}_slots"]],
            [f"two workers, {MANY_SLOTS} slots, MB", m[f"workers_mb_{MANY_SLOTS}_slots"]],
            ["ratio", m["memory_ratio"]],
            ["each further slot, MB", m["further_slot_mb"]],
            [f"{m['num_restores']} restores, growth in percent", m["restores_growth_percent"]],
            [f"{m['num_evictions']} evictions, growth in percent", m["evictions_growth_percent"]],
        ]
        print(table(("memory", ""), [[name, f"{value:.2f}"] for name, value in rows]))


def measure_speed(*, is_quick: bool) -> dict[str, Any]:
    """Measure steps, restores and images."""
    tasks = TASKS[:NUM_QUICK] if is_quick else TASKS
    steps = {
        f"{suite} {task_id}": measure_steps(suite, task_id, 20 if is_quick else 60)
        for suite, task_id in tasks
    }
    restore = measure_restores(*TASKS[0], rounds=3 if is_quick else 10)
    return {
        "step_speedup": min(step["speedup"] for step in steps.values()),
        "restore_speedup_cold": restore["speedup_cold"],
        "restore_speedup_undrawn": restore["speedup_undrawn"],
        "restore_speedup_cached": restore["speedup_cached"],
        "steps": steps,
        "restore": restore,
        "images": measure_images(5 if is_quick else 20),
    }


def measure_memory(*, is_quick: bool) -> dict[str, Any]:
    """Measure what slots cost and what long use leaves behind."""
    restores, evictions = (100, 4) if is_quick else (200, 20)
    return {"memory": {**measure_slots(), **measure_growth(restores, evictions)}}


def main() -> int:
    """Run the measurements."""
    parser = argparse.ArgumentParser(description="Parts of the engine beside LIBERO's own")
    add_output_arguments(parser)
    parser.add_argument("--memory", action="store_true", help="measure memory only")
    arguments = parser.parse_args()
    # One thread each, as in the engine's workers; read when the first GL context is created.
    os.environ |= {"LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    found = {} if arguments.memory else measure_speed(is_quick=arguments.quick)
    found |= measure_memory(is_quick=arguments.quick)
    report(found)
    write_json(arguments.json, found, is_quick=arguments.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
