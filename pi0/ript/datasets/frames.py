"""What every kind of data set becomes: frames in the order of their episodes, whose images are read when needed.

Shape legend: F frames, b chosen frames, N cameras, H actions per action chunk.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """The frames of demonstrations, as a policy would have observed them in LIBERO.

    Attributes:
        source: Folder they come from, for messages.
        tasks: The instructions, each once.
        task_index: int64 [F], which instruction.
        episode_index: int64 [F], which episode, ascending; None where the files do not say it.
        proprio: float64 [F, 9], see ``pi0.records.Observation``.
        max_horizon: Most actions of a chunk that ``read_chunks`` can return; None for any number.
        read_chunks: (frames int64 [b], H) -> float32 [b, H, 7], the actions from those frames on, simulator
            space; the last action of an episode is held.
        read_images: frames int64 [b] -> uint8 [b, N, height, width, 3], as LIBERO renders them (upside-down).
    """

    source: str
    tasks: tuple[str, ...]
    task_index: Indices
    episode_index: Indices | None
    proprio: NDArray[np.float64]
    max_horizon: int | None
    read_chunks: Callable[[Indices, int], NDArray[np.float32]]
    read_images: Callable[[Indices], NDArray[np.uint8]]

    def __len__(self) -> int:
        return len(self.proprio)


def require_horizon(frames: Frames, horizon: int) -> None:
    """Refuse action chunks that are longer than those in the files.

    Raises:
        ValueError: They are.
    """
    if frames.max_horizon is not None and horizon > frames.max_horizon:
        raise ValueError(
            f"{frames.source} holds action chunks of {frames.max_horizon} actions, the policy's have {horizon}; "
            f"record it again with: ript demos --horizon {horizon}"
        )


def chunk_indices(frames: Indices, ends: Indices, horizon: int) -> Indices:
    """Return where the actions of chunks are, int64 [b, H]: those from each frame on, the episode's last one held.

    Args:
        frames: int64 [b].
        ends: int64 [b], one past the last frame of each one's episode.
        horizon: H.
    """
    return np.minimum(frames[:, None] + np.arange(horizon), ends[:, None] - 1)


def episode_slice(text: str, name: str) -> slice:
    """Return what ``first:end`` means, either of which may be left out.

    Args:
        text: E.g. ``0:1`` (the first episode), ``40:`` or ``:50``.
        name: Of the flag, for the message.

    Raises:
        ValueError: The text means something else.
    """
    found = re.fullmatch(r"(\d*):(\d*)", text)
    if found is None:
        raise ValueError(f"{name} must be FIRST:END, e.g. 0:1 for the first episode, got {text!r}")
    first, end = (int(number) if number else None for number in found.groups())
    return slice(first, end)


def frames_of_episodes(frames: Frames, wanted: slice, name: str) -> Indices:
    """Return the frames of chosen episodes, int64.

    Args:
        frames: The data set.
        wanted: Positions among its episodes, in their order.
        name: Of the flag, for the message.

    Raises:
        ValueError: There are none, or the files do not say where episodes begin.
    """
    if wanted == slice(None):
        return np.arange(len(frames))
    if frames.episode_index is None:
        raise ValueError(
            f"{frames.source} does not say where its episodes begin, so {name} chooses nothing; "
            "record it again with: ript demos"
        )
    episodes = np.unique(frames.episode_index)
    chosen = np.flatnonzero(np.isin(frames.episode_index, episodes[wanted]))
    if not len(chosen):
        raise ValueError(
            f"{name} {wanted.start or 0}:{'' if wanted.stop is None else wanted.stop} chooses no episode of "
            f"{frames.source}, which has {len(episodes)}; give positions in 0:{len(episodes)}"
        )
    return chosen
