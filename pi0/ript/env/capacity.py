"""How much memory simulators take, known before any is started."""

from pi0.records import ObservationSpec
from pi0.ript.env.machine import Machine

MB = 10**6
# Measured as peak resident memory over tasks of all five suites; benchmarks/memory.py measures again.
WORKER_BYTES = 600 * MB  # libraries, and what stays after a first scene
SCENE_BYTES = 1200 * MB  # the largest scene; most take two thirds of it
ASSET_CACHE_BYTES = 500 * MB  # decoded meshes and textures, kept while other scenes may follow
SLOT_BYTES = 3 * MB  # simulation data of a slot in one scene
SAMPLES_PER_PIXEL = 4  # exact pictures are multisampled
BYTES_PER_SAMPLE = 8  # colour and depth


def predict_memory(
    num_workers: int, num_slots: int, scenes_per_worker: int, spec: ObservationSpec
) -> int:
    """Return how many bytes of memory simulators take at most.

    Args:
        num_workers: Simulator processes.
        num_slots: Slots of all workers together.
        scenes_per_worker: Scenes kept loaded in each worker.
        spec: Which pictures are drawn.
    """
    pixels = spec.height * spec.width
    pictures = len(spec.cameras) * pixels * 3
    scene = SCENE_BYTES + pixels * SAMPLES_PER_PIXEL * BYTES_PER_SAMPLE
    cache = ASSET_CACHE_BYTES if scenes_per_worker > 1 else 0
    per_slot = scenes_per_worker * SLOT_BYTES + pictures
    return num_workers * (WORKER_BYTES + cache + scenes_per_worker * scene) + num_slots * per_slot


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
            f"{num_workers} simulator workers with up to {scenes_per_worker} scenes each and "
            f"{num_slots} slots need up to {needed / 1e9:.1f} GB of memory, "
            f"{machine.memory_bytes / 1e9:.1f} GB are available; "
            "lower env.num_workers, env.max_scenes or task.num_parallel_envs"
        )
