"""Made-up demonstrations in memory, for tests of fine-tuning."""

import numpy as np

from pi0.ript.datasets.frames import Frames, Indices, chunk_indices


def made_frames(
    lengths: tuple[int, ...] = (6, 5),
    tasks: tuple[int, ...] = (0, 1),
    *,
    num_cameras: int = 2,
    size: int = 28,
    max_horizon: int | None = None,
) -> Frames:
    """One episode per length, each of the task at the same place; everything is drawn from one seed."""
    rng = np.random.default_rng(0)
    count, ends = sum(lengths), np.cumsum(lengths)
    of_frame = np.repeat(np.arange(len(lengths)), lengths)
    actions = rng.uniform(-1, 1, (count, 7)).astype(np.float32)
    images = rng.integers(0, 256, (count, num_cameras, size, size, 3), dtype=np.uint8)
    proprio = rng.standard_normal((count, 9))
    proprio[:, 3:7] /= np.linalg.norm(proprio[:, 3:7], axis=-1, keepdims=True)

    def chunks(frames: Indices, horizon: int) -> np.ndarray:
        return actions[chunk_indices(frames, ends[of_frame[frames]], horizon)]

    return Frames(
        source="made up",
        tasks=("open the drawer", "put the bowl on the plate"),
        task_index=np.array(tasks)[of_frame],
        episode_index=of_frame,
        proprio=proprio,
        max_horizon=max_horizon,
        read_chunks=chunks,
        read_images=lambda frames: images[frames],
    )
