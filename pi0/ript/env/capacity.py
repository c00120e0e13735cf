"""How much memory simulators take, known before any is started."""

from pi0.records import ObservationSpec
from pi0.ript.env.machine import Machine

MB = 10**6
# The largest figures over ten tasks of all five suites, two 256 px cameras, exact.
WORKER_BYTES = 600 * MB  # libraries, and what stays of a scene that was dropped
SCENE_BYTES = 1000 * MB  # compiled model, meshes, textures; most scenes take 650 to 800
BUILD_BYTES = 550 * MB  # passing need of the one scene that a worker is building
ASSET_CACHE_BYTES = 525 * MB  # decoded meshes and textures, kept while other scenes may follow
SLOT_BYTES = 2 * MB  # simulation data of a slot in one scene
SETTLED_STATES = 128  # kept per scene, each with its pictures
SAMPLE_BYTES = 4 * 8  # per pixel of an exact picture: four samples of colour and depth


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
    scene = SCENE_BYTES + pixels * SAMPLE_BYTES + SETTLED_STATES * pictures
    cache = ASSET_CACHE_BYTES if scenes_per_worker > 1 else 0
    worker = WORKER_BYTES + BUILD_BYTES + cache + scenes_per_worker * scene
    slot = scenes_per_worker * SLOT_BYTES + pictures
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
