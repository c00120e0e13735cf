"""Episodes as mp4 films, one frame per decision."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
from numpy.typing import NDArray

from pi0.ript.types import Episode

MIN_HEIGHT = 256
FRAMES_PER_S = 10


def write_episode_video(folder: Path, episode: Episode) -> Path:
    """Film an episode as the policy saw it, cameras side by side; return the file.

    Raises:
        ValueError: The episode kept no pictures.
    """
    frames = episode_frames(episode)
    if not frames:
        raise ValueError(f"episode {video_name(episode)} has no decision, so nothing to film")
    folder.mkdir(parents=True, exist_ok=True)
    return write_video(folder / video_name(episode), frames)


def write_video(path: Path, frames: Sequence[NDArray[np.uint8]]) -> Path:
    """Write frames, uint8 [height, width, 3] RGB of one size, as an mp4 that appears whole or not at all."""
    shapes = {frame.shape for frame in frames}
    assert len(shapes) == 1, f"a film needs frames of one shape, got {shapes}"
    temporary = path.with_name(f".{path.name}")
    try:
        with imageio.get_writer(
            temporary, format="FFMPEG", fps=FRAMES_PER_S, codec="libx264", macro_block_size=None
        ) as writer:
            for frame in frames:
                writer.append_data(_viewable(frame))  # pyright: ignore[reportAttributeAccessIssue] - typed too wide
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def episode_frames(episode: Episode) -> list[NDArray[np.uint8]]:
    """Return one frame per decision, cameras side by side, upright (LIBERO renders upside-down)."""
    return [
        np.concatenate([image[::-1] for image in decision.observation.images], axis=1)
        for decision in episode.decisions
    ]


def video_name(episode: Episode) -> str:
    """Return a file name that says task, state, seed and outcome, safe on every file system."""
    state = episode.request.initial_state
    words = re.sub(r"[^A-Za-z0-9]+", "_", episode.task).strip("_").lower()[:80]
    suite = re.sub(r"[^A-Za-z0-9_]+", "_", state.suite)
    return (
        f"{suite}_{state.task_id}_{words}_state{state.index}_seed{episode.request.seed}"
        f"_{episode.outcome}.mp4"
    )


def _viewable(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Enlarge small pictures by a whole factor and crop to even sides, which H.264 needs."""
    factor = -(-MIN_HEIGHT // frame.shape[0])
    large = frame.repeat(factor, axis=0).repeat(factor, axis=1)
    return large[: large.shape[0] // 2 * 2, : large.shape[1] // 2 * 2]


class Film:
    """Passes episodes on and writes those that were to be filmed."""

    def __init__(self, folder: Path, then: Callable[[Episode], None]) -> None:
        self._folder = folder
        self._then = then

    def __call__(self, episode: Episode) -> None:
        """Take a finished episode."""
        # A simulator that crashed at once left no picture.
        if episode.request.is_filmed and episode.decisions:
            write_episode_video(self._folder, episode)
        self._then(episode)
