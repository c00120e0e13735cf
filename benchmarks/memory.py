"""Memory of simulator processes: what a slot costs, and whether long use leaks."""

from pathlib import Path

import numpy as np

from benchmarks.peer import CAMERAS
from pi0.records import ObservationSpec
from pi0.ript.config.env import EnvConfig
from pi0.ript.config.task import TaskConfig
from pi0.ript.env.pool.process_pool import ProcessPool
from pi0.ript.env.suites import make_initial_state
from pi0.ript.types import InitialState

ENV = EnvConfig()
SPEC = ObservationSpec(cameras=CAMERAS, height=256, width=256)
TASK = ("libero_goal", 7)
OTHER_TASK = ("libero_goal", 6)
FEW_SLOTS, MANY_SLOTS, NUM_WORKERS = 2, 16, 2
NUM_STATES = 50
WARM_UP_EVICTIONS = 4


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
