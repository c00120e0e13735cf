"""What this machine has, what simulators take of it, and how many slots and workers follow."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pi0.records import ObservationSpec
from pi0.ript.config.base import Auto

ROOT = Path("/")
UNLIMITED = 2**60  # cgroup v1 writes "no limit" as a huge number of bytes

MB = 10**6
# The largest measurements with ten scenes of a suite and of several suites, two 256 px cameras, exact.
WORKER_BYTES = 350 * MB  # libraries, and what stays of a scene that was dropped
SCENE_BYTES = (
    300 * MB
)  # what no other scene has; 90 within a suite of like tasks, 110 without new textures and meshes
BUILD_BYTES = 800 * MB  # passing need of the one scene that a worker is building
ASSET_CACHE_BYTES = (
    525 * MB
)  # MuJoCo's decoded meshes and textures; 3.3.2 crashes when told to give them back
SLOT_BYTES = 2 * MB  # simulation data of a slot in one scene
SETTLED_STATES = 128  # kept per scene, each with its images
SAMPLE_BYTES = 4 * 8  # per pixel of an exact image: four samples of color and depth

SLOTS_PER_WORKER = 4  # with fewer, workers wait for the policy; with more, nothing is gained
MEMORY_SHARE = 0.8  # the rest is for the learner
TURNS_FROM = (
    3  # scenes in each worker; with fewer, a worker less is better than tasks that take turns
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What is there to be used.

    Attributes:
        num_cores: Cores this process may run on.
        memory_bytes: Memory that could be taken without swapping or being killed.
    """

    num_cores: int
    memory_bytes: int

    def share(self, num_processes: int) -> "Machine":
        """Return what each of several processes may take."""
        return Machine(
            num_cores=max(1, self.num_cores // num_processes),
            memory_bytes=self.memory_bytes // num_processes,
        )


def read_machine(root: Path = ROOT) -> Machine:
    """Return what this process may use: the least of the machine and every enclosing cgroup.

    Args:
        root: Where ``proc`` and ``sys`` are mounted.
    """
    cores = [float(len(os.sched_getaffinity(0)))]
    memory = [_available_memory(root)]
    for folder in _cgroup_folders(root, "cpu"):
        cores += _cpu_limit(folder)
    for folder in _cgroup_folders(root, "memory"):
        memory += _memory_left(folder)
    return Machine(num_cores=max(1, math.ceil(min(cores))), memory_bytes=max(0, min(memory)))


def _available_memory(root: Path) -> int:
    for line in (root / "proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    raise OSError(f"{root / 'proc/meminfo'} does not say how much memory is available")


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders, innermost first, whose limits of a controller hold for this process."""
    membership = root / "proc/self/cgroup"
    if not membership.is_file():
        return
    for line in membership.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if controllers else "")
        # A container sees its own group as the root of the mount, whatever its path is outside.
        inner = mount / path.lstrip("/")
        while inner != mount:
            yield inner
            inner = inner.parent
        yield mount


def _cpu_limit(folder: Path) -> list[float]:
    if (text := _read(folder / "cpu.max")) is not None:
        quota, period = text.split()
    else:
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    if quota in (None, "max", "-1") or period is None:
        return []
    return [int(quota) / int(period)]


def _memory_left(folder: Path) -> list[int]:
    limit = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")
    used = _read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes")
    if limit in (None, "max") or used is None or int(limit) >= UNLIMITED:
        return []
    # Files in the page cache count as used but are given up before anything is killed.
    statistics = (_read(folder / "memory.stat") or "").splitlines()
    numbers = dict(line.split() for line in statistics)
    cache = int(numbers.get("total_inactive_file", numbers.get("inactive_file", 0)))
    return [int(limit) - int(used) + cache]


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None  # the root group has no limits, and other layouts have other files


def predict_memory(
    num_workers: int, num_slots: int, scenes_per_worker: int, spec: ObservationSpec
) -> int:
    """Return how many bytes of memory simulators take at most.

    Args:
        num_workers: Simulator processes.
        num_slots: Slots of all workers together.
        scenes_per_worker: Scenes kept loaded in each worker.
        spec: Which images are drawn.
    """
    pixels = spec.height * spec.width
    images = len(spec.cameras) * pixels * 3
    scene = SCENE_BYTES + pixels * SAMPLE_BYTES + SETTLED_STATES * images
    worker = WORKER_BYTES + ASSET_CACHE_BYTES + BUILD_BYTES + scenes_per_worker * scene
    slot = scenes_per_worker * SLOT_BYTES + images
    return num_workers * worker + num_slots * slot


def require_memory(
    num_workers: int,
    num_slots: int,
    scenes_per_worker: int,
    spec: ObservationSpec,
    machine: Machine,
) -> None:
    """Raise ``ValueError`` if simulators would take more memory than the machine has left."""
    needed = predict_memory(num_workers, num_slots, scenes_per_worker, spec)
    if needed > machine.memory_bytes:
        raise ValueError(
            f"simulators need up to {needed / 1e9:.1f} GB of memory (workers: {num_workers}, scenes in "
            f"each: {scenes_per_worker}, slots: {num_slots}), {machine.memory_bytes / 1e9:.1f} GB are "
            "available; lower env.num_workers, env.max_scenes or task.num_parallel_envs"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """How many simulators there are and why.

    Attributes:
        num_slots: Episodes under way at once.
        num_workers: Simulator processes.
        scenes_per_worker: Most scenes loaded in each at any time.
        reason: Where the numbers come from, for a line of the log.
    """

    num_slots: int
    num_workers: int
    scenes_per_worker: int
    reason: str

    @property
    def line(self) -> str:
        """Return the sizing as part of a line of the log."""
        slots, workers, scenes = self.num_slots, self.num_workers, self.scenes_per_worker
        return (
            f"{slots} simulator slot{'s' * (slots != 1)} on {workers} worker{'s' * (workers != 1)}, "
            f"at most {scenes} scene{'s' * (scenes != 1)} each ({self.reason})"
        )


def choose_sizing(
    num_slots: int | Auto,
    num_workers: int | Auto | None,
    *,
    max_scenes: int,
    num_tasks: int,
    group_size: int,
    spec: ObservationSpec,
    machine: Machine,
) -> Sizing:
    """Choose what is ``auto``; numbers that were given are obeyed.

    Where memory is too small for a worker per core, auto lets each keep fewer scenes first, down to three or what
    gives every task a place, and takes fewer workers then. Where the workers were given, each keeps what fits. Tasks
    without a place take turns: their scenes are built anew.

    Args:
        num_slots: ``task.num_parallel_envs``.
        num_workers: ``env.num_workers``; None means ``auto``.
        max_scenes: ``env.max_scenes``.
        num_tasks: Tasks that are trained on; no worker needs more scenes.
        group_size: K; slots in a multiple or a fraction of it end a group together.
        spec: Which images are drawn.
        machine: Cores and memory there are.
    """
    is_auto = num_workers in ("auto", None)
    most_workers = machine.num_cores if num_workers in ("auto", None) else num_workers
    if num_slots != "auto":
        most_workers = min(most_workers, num_slots)
    most_scenes = min(max_scenes, num_tasks)
    available = machine.memory_bytes * (MEMORY_SHARE if is_auto else 1)

    def slots_of(workers: int) -> int:
        if num_slots != "auto":
            return num_slots
        return suit_groups(SLOTS_PER_WORKER * workers, group_size)

    def memory_of(workers: int, scenes: int) -> int:
        return predict_memory(workers, slots_of(workers), scenes, spec)

    def least_scenes(workers: int) -> int:
        return min(most_scenes, math.ceil(num_tasks / workers))

    fitting = [
        (workers, scenes)
        for workers in range(most_workers, 0 if is_auto else most_workers - 1, -1)
        for scenes in range(most_scenes, 0, -1)
        if memory_of(workers, scenes) <= available
    ]
    roomy = [choice for choice in fitting if choice[1] >= min(TURNS_FROM, least_scenes(choice[0]))]
    nothing_fits = [(1 if is_auto else most_workers, 1)]
    workers, scenes = (roomy or fitting or nothing_fits)[0]
    slots = slots_of(workers)
    return Sizing(
        num_slots=slots,
        num_workers=min(workers, slots),
        scenes_per_worker=scenes,
        reason=(
            f"{machine.num_cores} cores, {machine.memory_bytes / 1e9:.1f} GB of memory of which "
            f"simulators take up to {memory_of(workers, scenes) / 1e9:.1f} GB, K = {group_size}"
            f"{_shortage(scenes, least_scenes(workers))}"
        ),
    )


def fit_scenes(max_scenes: int, num_tasks: int, spec: ObservationSpec, machine: Machine) -> Sizing:
    """Return the sizing of the serial runner: one slot, and as many scenes as memory allows."""
    most = min(max_scenes, num_tasks)
    fitting = (
        n for n in range(most, 1, -1) if predict_memory(1, 1, n, spec) <= machine.memory_bytes
    )
    scenes = next(fitting, 1)
    return Sizing(
        num_slots=1,
        num_workers=1,
        scenes_per_worker=scenes,
        reason=f"the serial runner{_shortage(scenes, most)}",
    )


def _shortage(scenes: int, wanted: int) -> str:
    if scenes >= wanted:
        return ""
    return f"; {wanted} scenes in each do not fit, so tasks take turns"


def suit_groups(num_slots: int, group_size: int) -> int:
    """Return the largest multiple of K, or below K its largest divisor, up to ``num_slots``."""
    if num_slots >= group_size:
        return num_slots - num_slots % group_size
    return next(n for n in range(num_slots, 0, -1) if group_size % n == 0)
