"""How many slots and workers: what the user asked for, the rest from cores, memory and K."""

import math
from dataclasses import dataclass

from pi0.records import ObservationSpec
from pi0.ript.config.auto import Auto
from pi0.ript.env.capacity import predict_memory
from pi0.ript.env.machine import Machine

SLOTS_PER_WORKER = 4  # with fewer, workers wait for the policy; with more, nothing is gained
MEMORY_SHARE = 0.8  # the rest is for the learner


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
    """Fill in what was left to us; numbers that were given are obeyed.

    Where memory is too small for a worker per core, auto lets each keep fewer scenes first, as long
    as all workers together have room for every task, and takes fewer workers then.

    Args:
        num_slots: ``task.num_parallel_envs``.
        num_workers: ``env.num_workers``; None means ``auto``.
        max_scenes: ``env.max_scenes``.
        num_tasks: Tasks that are practised; no worker needs more scenes.
        group_size: K; slots in a multiple or a fraction of it end a group together.
        spec: Which pictures are drawn.
        machine: Cores and memory there are.
    """
    is_auto = num_workers in ("auto", None)
    most_workers = machine.num_cores if num_workers in ("auto", None) else num_workers
    if num_slots != "auto":
        most_workers = min(most_workers, num_slots)
    most_scenes = min(max_scenes, num_tasks)

    def slots_of(workers: int) -> int:
        if num_slots != "auto":
            return num_slots
        return suit_groups(SLOTS_PER_WORKER * workers, group_size)

    def memory_of(workers: int, scenes: int) -> int:
        return predict_memory(workers, slots_of(workers), scenes, spec)

    choices = [
        (workers, scenes)
        for workers in range(most_workers, 0, -1)
        for scenes in range(most_scenes, _least_scenes(workers, most_scenes, num_tasks) - 1, -1)
        if is_auto and memory_of(workers, scenes) <= MEMORY_SHARE * machine.memory_bytes
    ]
    workers, scenes = choices[0] if choices else (1 if is_auto else most_workers, most_scenes)
    slots = slots_of(workers)
    return Sizing(
        num_slots=slots,
        num_workers=min(workers, slots),
        scenes_per_worker=scenes,
        reason=(
            f"{machine.num_cores} cores, {machine.memory_bytes / 1e9:.1f} GB of memory of which "
            f"simulators take up to {memory_of(workers, scenes) / 1e9:.1f} GB, K = {group_size}"
        ),
    )


def _least_scenes(num_workers: int, most_scenes: int, num_tasks: int) -> int:
    return min(most_scenes, math.ceil(num_tasks / num_workers))


def suit_groups(num_slots: int, group_size: int) -> int:
    """Return the largest multiple of K, or below K its largest divisor, up to ``num_slots``."""
    if num_slots >= group_size:
        return num_slots - num_slots % group_size
    return next(n for n in range(num_slots, 0, -1) if group_size % n == 0)
