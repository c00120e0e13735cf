"""Demonstrations: how they are made, and on disk, one safetensors file per task, self-describing, never pickled."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """How demonstrations are made. The defaults made the embedded policy, but for ``fixture_seed``, which was 0.

    Attributes:
        per_task: Successful episodes kept per task.
        max_attempts: Episodes tried per task at most.
        max_steps: Control steps per episode.
        frame_every: Control steps between kept frames.
        horizon: H, actions per action chunk.
        action_noise: Largest std of the noise on executed position deltas; each episode draws its own
            level. The label stays the expert's own action, so the data shows how to recover.
        num_held_out_states: Initial states without demonstrations (the last n of 50).
        fixture_seed: Seeds the fixture poses of all attempts; None draws a seed for each.
        seed: Seeds states and noise.
    """

    per_task: int = 50
    max_attempts: int = 100
    max_steps: int = 150
    frame_every: int = 3
    horizon: int = 10
    action_noise: float = 0.3
    num_held_out_states: int = 20
    fixture_seed: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstrations:
    """Frames of successful expert episodes of one task.

    Legend: F frames, N cameras, H actions per action chunk.

    Attributes:
        suite: LIBERO suite.
        task_id: Task number within the suite.
        task: The instruction.
        images: uint8 [F, N, height, width, 3], as LIBERO renders them.
        proprio: float64 [F, 9].
        actions: float32 [F, H, 7]: what the expert would do from this frame on, simulator space.
        num_attempts: Expert episodes tried.
        num_successes: Expert episodes that succeeded; only those are kept.
        num_steps: Control steps of the kept episodes, summed.
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

    def __len__(self) -> int:
        return len(self.actions)


_ARRAYS = ("images", "proprio", "actions")
_NUMBERS = ("task_id", "num_attempts", "num_successes", "num_steps")


def save_demonstrations(demos: Demonstrations, folder: Path) -> Path:
    """Write ``<suite>_<task_id>.safetensors`` into ``folder``."""
    path = folder / f"{demos.suite}_{demos.task_id}.safetensors"
    meta = {name: getattr(demos, name) for name in ("suite", "task", *_NUMBERS)}
    arrays = {name: np.ascontiguousarray(getattr(demos, name)) for name in _ARRAYS}
    temporary = path.with_suffix(".tmp")
    save_file(arrays, temporary, metadata={"demonstrations": json.dumps(meta)})
    temporary.replace(path)
    return path


def load_demonstrations(folder: Path) -> list[Demonstrations]:
    """Read every task file in ``folder``, in name order.

    Raises:
        FileNotFoundError: There is none.
        ValueError: One is damaged, or holds no demonstrations.
    """
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise FileNotFoundError(f"no demonstrations (*.safetensors) in {folder}; run: ript demos")
    return [_load(path) for path in paths]


def _load(path: Path) -> Demonstrations:
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("demonstrations")
            if text is not None:
                arrays = {name: file.get_tensor(name) for name in _ARRAYS}
                return Demonstrations(**json.loads(text), **arrays)
    except (SafetensorError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged ({reason}); make it again with: ript demos") from None
    raise ValueError(f"{path} holds no demonstrations; make it with: ript demos")
