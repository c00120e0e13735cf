"""What each optimizer step learns from: frames, noise and times, drawn from one generator that can be stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pi0.ript.datasets.frames import Frames, Indices
from pi0.ript.seeding import derive_seed
from pi0.ript.sft.augmentation import NUMBERS
from pi0.ript.sft.settings import SftSettings

# pi0 draws its training times from Beta(1.5, 1), scaled away from exactly 0: most weight near noise.
TIME_ALPHA, TIME_BETA = 1.5, 1.0
TIME_SCALE, TIME_OFFSET = 0.999, 0.001

Numbers = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Legend: B frames, N cameras, R draws per frame, H actions per chunk, A action dims of the network.

    Attributes:
        frames: int64 [B], numbers of frames of the data set.
        noise: float32 [B, R, H, A], standard normal.
        times: float32 [B, R] in (0, 1]; 1 is noise.
        state: Of the generator afterwards.
        changes: float32 [B, N, 6] in [0, 1), what images are changed by, see ``augmented``; None leaves them alone.
    """

    frames: Indices
    noise: NDArray[np.float32]
    times: NDArray[np.float32]
    state: Numbers
    changes: NDArray[np.float32] | None = None

    def part(self, some: slice) -> "Draw":
        """Return some of the frames with their noise and times."""
        return Draw(
            frames=self.frames[some],
            noise=self.noise[some],
            times=self.times[some],
            state=self.state,
            changes=None if self.changes is None else self.changes[some],
        )


class Draws:
    """Draws frames with replacement.

    Args:
        chosen: int64, the frames to draw from.
        probabilities: float64, of each.
        settings: How many.
        shape: (H, A).
        rng: Where draws come from.
        num_cameras: N.
    """

    def __init__(
        self,
        chosen: Indices,
        probabilities: NDArray[np.float64],
        settings: SftSettings,
        shape: tuple[int, int],
        rng: np.random.Generator,
        num_cameras: int,
    ) -> None:
        self._changes_shape = (settings.frames_per_step, num_cameras, NUMBERS)
        self._is_changing = settings.augment != "none"
        self._chosen, self._probabilities = chosen, probabilities
        self._num_frames, self._num_draws = settings.frames_per_step, settings.draws_per_frame
        self._shape = shape
        self._rng = rng

    def next(self) -> Draw:
        """Return the draw of the next step."""
        drawn = self._rng.choice(len(self._chosen), self._num_frames, p=self._probabilities)
        shape = (self._num_frames, self._num_draws)
        noise = self._rng.standard_normal((*shape, *self._shape), dtype=np.float32)
        times = draw_times(self._rng, shape)
        changes = None
        if self._is_changing:
            changes = self._rng.random(self._changes_shape, dtype=np.float32)
        return Draw(
            frames=self._chosen[drawn],
            noise=noise,
            times=times,
            state=generator_state(self._rng),
            changes=changes,
        )


def draw_times(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw flow-matching times in (0, 1]; t = 1 is noise."""
    return (rng.beta(TIME_ALPHA, TIME_BETA, shape) * TIME_SCALE + TIME_OFFSET).astype(np.float32)


def shares(frames: Frames, chosen: Indices, weights: tuple[float, ...]) -> NDArray[np.float64]:
    """Return how likely each chosen frame is drawn; the frames of a task share the task's weight.

    Args:
        frames: The data set.
        chosen: int64, the frames to draw from.
        weights: One per task that has chosen frames; empty gives all tasks the same.

    Raises:
        ValueError: There are more or fewer weights than tasks.
    """
    task, counts = np.unique(frames.task_index[chosen], return_inverse=True, return_counts=True)[1:]
    of_task = np.array(weights or (1.0,) * len(counts))
    if len(of_task) != len(counts):
        raise ValueError(
            f"task_weights has {len(of_task)} numbers for {len(counts)} tasks; give one each"
        )
    return (of_task / counts)[task] / of_task.sum()


def held_out_draws(
    chosen: Indices, most: int, num_draws: int, shape: tuple[int, int], seed: int
) -> Draw:
    """Return the one draw that the loss on held-out episodes is measured with, over and over.

    Args:
        chosen: int64, held-out frames.
        most: Frames that are measured at most, spread evenly.
        num_draws: R.
        shape: (H, A).
        seed: Of noise and times.
    """
    rng = np.random.Generator(np.random.Philox(derive_seed(seed, "sft", "held-out")))
    count = min(most, len(chosen))
    frames = chosen[np.linspace(0, len(chosen) - 1, count).astype(np.int64)]
    noise = rng.standard_normal((count, num_draws, *shape), dtype=np.float32)
    return Draw(frames=frames, noise=noise, times=draw_times(rng, (count, num_draws)), state={})


def new_generator(seed: int) -> np.random.Generator:
    """Return the generator of a run."""
    return np.random.Generator(np.random.Philox(derive_seed(seed, "sft")))


def generator_state(rng: np.random.Generator) -> dict[str, int]:
    """Return the state of a Philox generator as plain numbers by name."""
    state = rng.bit_generator.state
    return {
        **{f"counter_{n}": int(v) for n, v in enumerate(state["state"]["counter"])},
        **{f"key_{n}": int(v) for n, v in enumerate(state["state"]["key"])},
        **{f"buffer_{n}": int(v) for n, v in enumerate(state["buffer"])},
        **{name: int(state[name]) for name in ("buffer_pos", "has_uint32", "uinteger")},
    }


def restored_generator(numbers: Numbers) -> np.random.Generator:
    """Return the generator whose state ``generator_state`` has returned."""

    def several(name: str, count: int) -> NDArray[np.uint64]:
        return np.array([numbers[f"{name}_{n}"] for n in range(count)], dtype=np.uint64)

    bits: Any = np.random.Philox(0)
    bits.state = {
        "bit_generator": "Philox",
        "state": {"counter": several("counter", 4), "key": several("key", 2)},
        "buffer": several("buffer", 4),
        **{name: numbers[name] for name in ("buffer_pos", "has_uint32", "uinteger")},
    }
    return np.random.Generator(bits)
