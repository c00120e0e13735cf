"""The interfaces of the system on one page: what each part may expect of the others."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pi0.records import Chunk, Observation, ObservationSpec, Sampling
from pi0.ript.packed_frames import PackedFrames
from pi0.ript.types import Episode, InitialState


class Policy(Protocol):
    """Anything that can act: a batch of observations in, a batch of action chunks out."""

    @property
    def spec(self) -> ObservationSpec:
        """Return which images an observation must have."""
        ...

    def act(
        self,
        observations: Sequence[Observation],
        tasks: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Chunk]:
        """Return one action chunk per observation, in one batched call.

        Args:
            observations: B observations.
            tasks: The instruction of each.
            seeds: The seed of each one's exploration noise.
            sampling: Denoise steps and scale of the noise.

        Returns:
            B action chunks; each depends on its own observation, instruction and seed only.
        """
        ...


StepProtocol = Literal["openpi", "lerobot"]
"""The published protocol whose limits of control steps hold."""


@runtime_checkable
class HasProtocol(Protocol):
    """A policy that follows a published protocol; for those that name none openpi's limits hold."""

    @property
    def protocol(self) -> StepProtocol:
        """Return the protocol."""
        ...


Fault = Literal["", "diverged", "raised", "died", "hung", "malformed", "lost", "inexact"]
"""What kept a request from finishing: nothing; its physics diverged; its simulation raised; its worker
ended, sent nothing for too long or sent a malformed message; or, for ``lost``, the simulation ended with
another request's fault. ``inexact`` ends the run: the engine does not give on this machine what LIBERO gives.
"""


class ExactnessError(OSError):
    """The engine does not give on this machine what LIBERO gives; names what differs and the versions."""


class DivergedError(RuntimeError):
    """The physics of a simulation diverged, as they will again from the same state with the same actions.

    Attributes:
        num_steps: Control steps of the request up to the one that diverged, which is among them; 0 while
            an initial state settled.
    """

    def __init__(self, message: str, *, num_steps: int) -> None:
        super().__init__(message)
        self.num_steps = num_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came of a request to restore a slot or to execute actions in it.

    A fault other than ``lost`` and ``diverged`` means that a worker was replaced, and is in one reply only.

    Attributes:
        slot: Which slot; numbered over the pool, or within its worker where the worker makes it.
        observation: What LIBERO's ``env.step`` would have returned after the last step; None after a
            crash and where no policy step can follow.
        is_success: Whether the task's success condition held after any step so far (sticky).
        num_steps: Control steps executed by this request, 0..h; of those that ended in a fault only
            ``diverged`` counts any, the one that diverged included.
        error: Why the slot crashed, else empty.
        fault: The kind of crash; empty if and only if ``error`` is.
        frames: Images after each of its control steps, if a video was requested.
        timings: Worker seconds by stage for this request ("physics_s", "render_s", "video_s",
            "restore_s", "build_s"); in the first reply of a worker that replaced another one also
            "restart_s", the seconds for which its slots had no worker.
        counts: What the request caused ("scene_builds", "scene_evictions", "restores_cached",
            "restores_cold").
    """

    slot: int
    observation: Observation | None
    is_success: bool
    num_steps: int
    error: str = ""
    fault: Fault = ""
    frames: PackedFrames | None = None
    timings: Mapping[str, float] = field(default_factory=dict[str, float])
    counts: Mapping[str, int] = field(default_factory=dict[str, int])


class EnvPool(Protocol):
    """Simulator slots that work on their own time. One request per slot may be under way."""

    @property
    def num_slots(self) -> int:
        """Return how many episodes can be under way at once."""
        ...

    @property
    def num_workers(self) -> int:
        """Return how many workers share the slots."""
        ...

    def worker_of(self, slot: int) -> int:
        """Return which worker runs a slot; a worker runs its requests one after the other."""
        ...

    def restore(self, slot: int, initial_state: InitialState) -> None:
        """Start bringing the slot to the settled initial state; ``wait`` returns its first observation.

        Raises:
            ValueError: The state is malformed, the slot is busy, or its worker has no room for the scene.
        """
        ...

    def execute(
        self,
        slot: int,
        actions: NDArray[np.float32],
        *,
        observe: bool = True,
        video: bool = False,
    ) -> None:
        """Start up to h control steps, which end at success; ``wait`` returns the reply.

        Args:
            slot: Which slot; it must have been restored and have no request under way.
            actions: float32 [h, 7]: translation, rotation and gripper; LIBERO clips them to [-1, 1].
            observe: False where no policy step follows; the reply may then lack an observation, as it
                may once the task is solved.
            video: Whether the reply has frames, unless this simulator draws none; it is the same
                otherwise.

        Raises:
            ValueError: The actions are malformed or the slot is busy.
        """
        ...

    def wait(self) -> list[Reply]:
        """Block until at least one request has finished and return the replies of all finished ones.

        May return none when slots can be restored that could not before, because their worker has
        started meanwhile.
        """
        ...

    def release(self, slot: int) -> None:
        """Release the slot's scene after its episode, so that it may make room for another."""
        ...

    def loaded_scenes(self, slot: int) -> frozenset[tuple[str, int]]:
        """Return the (suite, task_id) scenes that are cheap to restore in this slot."""
        ...

    def can_restore(self, slot: int, scene: tuple[str, int]) -> bool:
        """Return whether the scenes that other slots hold leave room for this one."""
        ...

    def close(self) -> None:
        """End every simulator; safe to call twice."""
        ...


class RunnerPool(EnvPool, Protocol):
    """A pool as a runner makes one for itself."""

    @property
    def local_pids(self) -> tuple[int, ...]:
        """Return the simulator processes on this machine; none where slots are in this one."""
        ...

    @property
    def driver(self) -> Mapping[str, str]:
        """Return what draws, see ``read_driver``; empty before ``wait_until_ready``."""
        ...

    def wait_until_ready(self) -> None:
        """Block until the simulators can work."""
        ...

    def drop_scenes(self) -> None:
        """Free the scenes that no slot holds."""
        ...


class Reporter(Protocol):
    """Writes the metrics of training steps somewhere."""

    def log(self, step: int, metrics: Mapping[str, float | str]) -> None:
        """Write one record: the metrics of a training step."""
        ...

    def close(self) -> None:
        """Flush and release files."""
        ...


class Progress(Protocol):
    """Shows long work while it goes on: rate, time left, success so far."""

    def stage(
        self, name: str, num_episodes: int, run_left_s: float | None = None
    ) -> AbstractContextManager[Callable[[Episode], None]]:
        """Open a stage; its context is a function to call with every finished episode.

        Args:
            name: What is going on, e.g. ``step 3/30 collect``.
            num_episodes: About how many episodes will come; 0 for work without episodes.
            run_left_s: Seconds that the whole run still takes from here on; None if not known.
        """
        ...


class Tally(Protocol):
    """Counts the groups of one collection over all ranks. No rank waits for another one."""

    def add(self, *, is_rejected: bool) -> None:
        """Count a finished group."""
        ...

    def read(self) -> tuple[int, int]:
        """Return (finished, rejected) groups so far; the rejected ones are among the finished."""
        ...

    def pause(self) -> None:
        """Wait a moment before reading again."""
        ...


class Ranks(Protocol):
    """The processes that train one policy together; a process on its own is rank 0 of 1."""

    @property
    def rank(self) -> int:
        """Return which of the processes this is."""
        ...

    @property
    def world_size(self) -> int:
        """Return how many processes there are."""
        ...

    def gather(self, values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Return the values of every rank in rank order, float64 [n of that rank, m]; a collective."""
        ...

    def gather_text(self, text: str) -> list[str]:
        """Return the text of every rank in rank order; a collective."""
        ...

    def aside(self) -> "Ranks":
        """Return the same ranks for another thread, whose collectives are separate from ours."""
        ...

    def tally(self, name: str) -> Tally:
        """Return the tally of that name; one name is one collection."""
        ...
