"""Executed episodes with an image per control step: what simulators hand over and writers of data sets take.

Shape legend: F frames (control steps), N cameras.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from pi0.files import write_atomically

_ARRAYS = ("images", "proprio", "actions")
_VALUES = ("suite", "task_id", "task", "state_index", "fixture_seed", "seed", "is_success")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEpisode:
    """One episode; frame i is what was observed before action i, so the state that the last one led to is in no frame.

    Attributes:
        suite: LIBERO suite.
        task_id: Task number within the suite.
        task: The instruction.
        state_index: Which of the task's initial states.
        fixture_seed: Seeds the poses of fixtures.
        seed: Of the policy's or the expert's random draws, in [0, 2**63).
        is_success: Whether the last action solved the task.
        images: uint8 [F, N, height, width, 3], as LIBERO renders them.
        proprio: float64 [F, 9].
        actions: float32 [F, 7], as executed.
    """

    suite: str
    task_id: int
    task: str
    state_index: int
    fixture_seed: int
    seed: int
    is_success: bool
    images: NDArray[np.uint8]
    proprio: NDArray[np.float64]
    actions: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.actions)


def save_recorded(episode: RecordedEpisode, path: Path) -> None:
    """Write an episode for another process to read."""
    arrays = {name: np.ascontiguousarray(getattr(episode, name)) for name in _ARRAYS}
    values = json.dumps({name: getattr(episode, name) for name in _VALUES})
    write_atomically(path, save(arrays, metadata={"episode": values}))


def load_recorded(path: Path) -> RecordedEpisode:
    """Read what ``save_recorded`` wrote."""
    with safe_open(path, framework="numpy") as file:
        values = json.loads(file.metadata()["episode"])
        return RecordedEpisode(**values, **{name: file.get_tensor(name) for name in _ARRAYS})


def take_recorded(folder: Path) -> Iterator[RecordedEpisode]:
    """Yield the episodes that processes saved into a folder, in order of names; each file is gone afterwards."""
    for path in sorted(folder.glob("*.safetensors")):
        yield load_recorded(path)
        path.unlink()
