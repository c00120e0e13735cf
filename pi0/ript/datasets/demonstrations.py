"""What ``ript demos`` writes: one safetensors file per task, self-describing, never pickled."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pi0.files import write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstrations:
    """Frames of successful episodes of one task.

    Legend: F frames, N cameras, H actions per action chunk.

    Attributes:
        suite: LIBERO suite.
        task_id: Task number within the suite.
        task: The instruction.
        images: uint8 [F, N, height, width, 3], as LIBERO renders them.
        proprio: float64 [F, 9].
        actions: float32 [F, H, 7]: what the expert would do from this frame on, simulator space.
        num_attempts: Episodes tried.
        num_successes: Episodes that succeeded; only those are kept.
        num_steps: Control steps of the kept episodes, summed.
        episode_index: int64 [F], which of the kept episodes, from 0, ascending; None in files of earlier
            versions, which do not say it.
        cameras: LIBERO's names of the N cameras, in order; None in files of earlier versions.
    """

    suite: str
    task_id: int
    task: str
    images: NDArray[np.uint8]
    proprio: NDArray[np.float64]
    actions: NDArray[np.float32]
    num_attempts: int
    num_successes: int
    num_steps: int
    episode_index: NDArray[np.int64] | None = None
    cameras: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.actions)


PATTERN = "*.safetensors"
_ARRAYS = ("images", "proprio", "actions")
_ADDED_LATER = ("episode_index",)
_NUMBERS = ("task_id", "num_attempts", "num_successes", "num_steps")


def save_demonstrations(demos: Demonstrations, folder: Path) -> Path:
    """Write ``<suite>_<task_id>.safetensors`` into ``folder``."""
    path = file_of(folder, demos.suite, demos.task_id)
    meta = {name: getattr(demos, name) for name in ("suite", "task", *_NUMBERS)}
    meta |= {} if demos.cameras is None else {"cameras": demos.cameras}
    values = {name: getattr(demos, name) for name in (*_ARRAYS, *_ADDED_LATER)}
    arrays = {
        name: np.ascontiguousarray(value) for name, value in values.items() if value is not None
    }
    # not safetensors' own save_file, whose files only their owner may read
    write_atomically(path, save(arrays, metadata={"demonstrations": json.dumps(meta)}))
    return path


def read_num_successes(folder: Path, suite: str, task_id: int) -> int:
    """Return how many episodes the file of a task holds; its arrays are not read."""
    with safe_open(file_of(folder, suite, task_id), framework="numpy") as file:
        return json.loads(file.metadata()["demonstrations"])["num_successes"]


def file_of(folder: Path, suite: str, task_id: int) -> Path:
    """Return where the demonstrations of a task are."""
    return folder / f"{suite}_{task_id}.safetensors"


def load_demonstrations(folder: Path) -> list[Demonstrations]:
    """Read every task file in ``folder``, in name order.

    Raises:
        FileNotFoundError: There is none.
        IsADirectoryError: A folder is called like one.
        ValueError: One is damaged, or holds no demonstrations.
    """
    paths = sorted(folder.glob(PATTERN))
    if not paths:
        raise FileNotFoundError(f"no demonstrations ({PATTERN}) in {folder}; run: ript demos")
    return [_load(path) for path in paths]


def _load(path: Path) -> Demonstrations:
    if path.is_dir():  # which safetensors calls a missing device, without a name
        raise IsADirectoryError(
            f"{path} is a folder, not a file of demonstrations; move it elsewhere, or give the folder that holds them"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("demonstrations")
            if text is not None:
                later = [name for name in _ADDED_LATER if name in file.keys()]  # noqa: SIM118
                arrays = {name: file.get_tensor(name) for name in (*_ARRAYS, *later)}
                values = json.loads(text)
                if "cameras" in values:
                    values["cameras"] = tuple(values["cameras"])
                return _checked(Demonstrations(**values, **arrays))
    except (SafetensorError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged ({reason}); make it again with: ript demos") from None
    raise ValueError(f"{path} holds no demonstrations; make it with: ript demos")


def _checked(demos: Demonstrations) -> Demonstrations:
    """Return demonstrations whose arrays belong together."""
    frames, index = len(demos.images), demos.episode_index
    lengths = {frames, len(demos.proprio), len(demos.actions)}
    if len(lengths) > 1 or demos.proprio.shape != (frames, 9) or demos.actions.shape[2:] != (7,):
        raise ValueError(
            f"images {list(demos.images.shape)}, proprio {list(demos.proprio.shape)} and actions "
            f"{list(demos.actions.shape)} do not belong together"
        )
    names, shape = demos.cameras, demos.images.shape
    if names is not None and (
        shape[1:2] != (len(names),) or not all(isinstance(name, str) for name in names)
    ):
        raise ValueError(f"images {list(shape)} are not of cameras {list(names)}")
    if index is not None and (index.shape != (frames,) or (np.diff(index) < 0).any()):
        raise ValueError("episode_index must ascend, one number per frame")
    return demos
