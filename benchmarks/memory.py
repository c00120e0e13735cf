"""Memory of simulator processes: what a slot and a scene cost, and whether long use leaks.

    python benchmarks/memory.py --suite libero_object --rounds 3

measures scenes: a worker builds the tasks of a suite one after the other and keeps them all. What slots cost and
whether use leaks is measured by ``benchmarks/engine.py --memory``.
"""

import argparse
import os
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np

from benchmarks.parts.measure import add_output_arguments, table, write_json
from benchmarks.simulator.peer import CAMERAS
from pi0.records import ObservationSpec
from pi0.ript.config.env import EnvConfig
from pi0.ript.config.task import TaskConfig
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.pool.process_pool import ProcessPool
from pi0.ript.env.resources import SLOTS_PER_WORKER
from pi0.ript.env.suites import SUITES
from pi0.ript.types import InitialState

ENV = EnvConfig()
SPEC = ObservationSpec(cameras=CAMERAS, height=256, width=256)
TASK = ("libero_goal", 7)
OTHER_TASK = ("libero_goal", 6)
FEW_SLOTS, MANY_SLOTS, NUM_WORKERS = 2, 16, 2
NUM_STATES = 50
WARM_UP_EVICTIONS = 4
SCENE_COUNTS = (1, 3, 5, 10)


def proportional_mb(pids: tuple[int, ...]) -> float:
    """Return the memory of processes in MB, with shared pages divided among their users."""
    return sum(_kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") for pid in pids) / 1e3


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmRSS:") / 1e3


def _kilobytes(path: Path, name: str) -> float:
    line = next(line for line in path.read_text().splitlines() if line.startswith(name))
    return 1.024 * float(line.split()[1])  # the kernel counts in KiB


def measure_slots() -> dict[str, float]:
    """Return the memory of two workers with few and with many slots of one task, all in use."""
    few, many = (_acting_slots_mb(count) for count in (FEW_SLOTS, MANY_SLOTS))
    return {
        f"workers_mb_{FEW_SLOTS}_slots": few,
        f"workers_mb_{MANY_SLOTS}_slots": many,
        "memory_ratio": many / few,
        "further_slot_mb": (many - few) / (MANY_SLOTS - FEW_SLOTS),
    }


def _acting_slots_mb(num_slots: int) -> float:
    chunk = np.zeros((10, 7), dtype=np.float32)
    with _pool(num_slots, NUM_WORKERS, ENV.max_scenes) as pool:
        for slot in range(num_slots):
            pool.restore(slot, make_initial_state(*TASK, slot, fixture_seed=0))
        _wait_for(pool, num_slots)
        for slot in range(num_slots):
            pool.execute(slot, chunk)
        _wait_for(pool, num_slots)
        return proportional_mb(pool.pids)


def measure_growth(num_restores: int, num_evictions: int) -> dict[str, float]:
    """Return how the memory of one worker changes over many restores and scene evictions.

    Restores are counted from when the cache holds every state, evictions from the fourth,
    when the allocator has served both scenes.
    """
    with _pool(1, 1, max_scenes=1) as pool:
        for n in range(NUM_STATES):
            _restore(pool, make_initial_state(*TASK, n, fixture_seed=0))
        before = resident_mb(pool.pids[0])
        for n in range(num_restores):
            _restore(pool, make_initial_state(*TASK, n % NUM_STATES, fixture_seed=0))
        restored = resident_mb(pool.pids[0])
        for n in range(WARM_UP_EVICTIONS):
            _restore(pool, _alternating(n))
        evicted_before = resident_mb(pool.pids[0])
        for n in range(WARM_UP_EVICTIONS, WARM_UP_EVICTIONS + num_evictions):
            _restore(pool, _alternating(n))
        evicted = resident_mb(pool.pids[0])
    return {
        "num_restores": num_restores,
        "restores_growth_percent": 100.0 * (restored / before - 1.0),
        "num_evictions": num_evictions,
        "evictions_growth_percent": 100.0 * (evicted / evicted_before - 1.0),
        "worker_mb": evicted,
    }


@dataclass(frozen=True, kw_only=True)
class SceneCost:
    """A worker after one more scene.

    Attributes:
        build_s: Seconds for building it, by the clock.
        cpu_s: Seconds of a core for that: of the restore that builds it, less those of one that does not.
        worker_mb: Memory of the worker with all scenes so far, each used by every slot.
        peak_mb: The most that the worker has taken until then.
    """

    build_s: float
    cpu_s: float
    worker_mb: float
    peak_mb: float


def measure_scenes(suite: str, num_scenes: int) -> list[SceneCost]:
    """Return what one worker takes with 1 to ``num_scenes`` scenes of a suite, of whose slots each is in every scene."""
    with _pool(SLOTS_PER_WORKER, 1, num_scenes) as pool:
        return [_build(pool, suite, task_id) for task_id in range(num_scenes)]


def _build(pool: ProcessPool, suite: str, task_id: int) -> SceneCost:
    [pid] = pool.pids
    restores = [_restore_in(pool, slot, suite, task_id) for slot in range(SLOTS_PER_WORKER)]
    first, *others = (cpu_s for cpu_s, _ in restores)
    return SceneCost(
        build_s=sum(build_s for _, build_s in restores),
        cpu_s=first - statistics.median(others),
        worker_mb=proportional_mb((pid,)),
        peak_mb=_kilobytes(Path(f"/proc/{pid}/status"), "VmHWM:") / 1e3,
    )


def _restore_in(pool: ProcessPool, slot: int, suite: str, task_id: int) -> tuple[float, float]:
    """Settle a state of a task in a slot; return the worker's seconds of a core, and those that a clock saw it build."""
    [pid] = pool.pids
    before = _cpu_seconds(pid)
    pool.restore(slot, make_initial_state(suite, task_id, slot, fixture_seed=0))
    [reply] = pool.wait()
    assert not reply.error, reply
    return _cpu_seconds(pid) - before, reply.timings.get("build_s", 0.0)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = fields[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def summarize(rounds: list[list[SceneCost]]) -> dict[str, dict[str, float]]:
    """Return by number of scenes the medians over rounds; the times are those of the last scene built."""
    counts = [count for count in SCENE_COUNTS if count <= len(rounds[0])]
    return {
        str(count): {
            name: statistics.median(getattr(costs[count - 1], name) for costs in rounds)
            for name in ("worker_mb", "peak_mb", "build_s", "cpu_s")
        }
        for count in counts
    }


def _pool(num_slots: int, num_workers: int, max_scenes: int) -> ProcessPool:
    return ProcessPool(
        SPEC,
        num_slots,
        num_workers,
        max_scenes=max_scenes,
        num_steps_wait=TaskConfig().num_steps_wait,
        timeout_s=ENV.timeout_s,
    )


def _alternating(number: int) -> InitialState:
    """Return a state of the other task for even numbers, so that every restore evicts a scene."""
    return make_initial_state(*(OTHER_TASK, TASK)[number % 2], number, fixture_seed=0)


def _restore(pool: ProcessPool, state: InitialState) -> None:
    pool.restore(0, state)
    _wait_for(pool, 1)


def _wait_for(pool: ProcessPool, count: int) -> None:
    while count > 0:
        replies = pool.wait()
        assert not any(reply.error for reply in replies), replies
        count -= len(replies)


def main() -> int:
    """Measure scenes."""
    parser = argparse.ArgumentParser(description="What the scenes of one worker cost")
    add_output_arguments(parser)
    parser.add_argument("--suite", choices=SUITES, default="libero_object")
    parser.add_argument("--rounds", type=int, default=3, help="workers, one after the other")
    arguments = parser.parse_args()
    counts, rounds = (3, 1) if arguments.quick else (max(SCENE_COUNTS), arguments.rounds)
    found = summarize([measure_scenes(arguments.suite, counts) for _ in range(rounds)])
    rows = [
        [count, f"{f['worker_mb'] / 1e3:.2f}", f"{f['peak_mb'] / 1e3:.2f}", f"{f['build_s']:.2f}", f"{f['cpu_s']:.2f}"]
        for count, f in found.items()
    ]  # fmt: skip
    header = (
        f"scenes of {arguments.suite}",
        "GB",
        "peak, GB",
        "build, s",
        "of a core, s",
    )
    print(table(header, rows))
    write_json(
        arguments.json,
        {"suite": arguments.suite, "rounds": rounds, "scenes": found},
        is_quick=arguments.quick,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
