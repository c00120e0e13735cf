"""The seams of the system on one page: what each part may expect of the others."""

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
    """Whatever can act: a batch of looks in, a batch of action chunks out."""

    @property
    def spec(self) -> ObservationSpec:
        """Return which pictures the policy wants."""
        ...

    def act(
        self,
        observations: Sequence[Observation],
        tasks: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Chunk]:
        """Answer every row in one batched call; row i depends on row i's inputs and seed only."""
        ...


StepProtocol = Literal["openpi", "lerobot"]
"""Whose limits of control steps hold."""


@runtime_checkable
class HasProtocol(Protocol):
    """A policy that follows a published protocol; those that name none are held to openpi's limits."""

    @property
    def protocol(self) -> StepProtocol:
        """Return the protocol."""
        ...


Fault = Literal["", "raised", "died", "hung", "malformed", "lost"]
"""What kept a command from its end: nothing; its simulation raised; its worker died, was silent for
too long or answered nonsense; or, for ``lost``, another command's fault took the simulation with it.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a slot reports after ``restore`` or ``execute``.

    A fault other than ``lost`` means that a simulator was replaced, and is told by one reply only.

    Attributes:
        slot: Which slot.
        observation: What LIBERO's ``env.step`` would have returned; None after a crash and where
            no decision can follow.
        is_success: Whether the task's success condition held after any step so far (sticky).
        num_steps: Control steps executed by this command.
        error: Why the slot crashed, else empty.
        fault: The kind of crash; empty if and only if ``error`` is.
        frames: Pictures after each of its control steps, if a film was wanted.
        timings: Worker seconds by stage for this command ("physics_s", "render_s", "film_s",
            "restore_s", "build_s"), and before the first command of a replaced worker "restart_s", the seconds
            that it was missing.
        counts: What the command caused ("scene_builds", "scene_evictions", "restores_cached",
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
    """Simulator slots that work on their own time. One command per slot may be under way."""

    @property
    def num_slots(self) -> int:
        """Return how many episodes can be under way at once."""
        ...

    @property
    def num_workers(self) -> int:
        """Return how many workers share the slots."""
        ...

    def worker_of(self, slot: int) -> int:
        """Return which worker runs a slot; a worker runs its commands one after the other."""
        ...

    def restore(self, slot: int, initial_state: InitialState) -> None:
        """Start bringing the slot to the settled initial state; its look arrives through ``wait``."""
        ...

    def execute(
        self,
        slot: int,
        actions: NDArray[np.float32],
        *,
        observe: bool = True,
        video: bool = False,
    ) -> None:
        """Start up to h control steps, float32 [h, 7]; stops at success; the reply arrives through ``wait``.

        The reply may lack a look if ``observe`` is False or the task is solved: nobody acts on it. With
        ``video`` it brings a strip, unless this simulator draws none, and is the same otherwise.
        """
        ...

    def wait(self) -> list[Reply]:
        """Block until at least one command has finished and return all finished ones.

        May return none when slots can be restored that could not, because their worker has come.
        """
        ...

    def release(self, slot: int) -> None:
        """Say that the slot's episode is over, so that its scene may make room for another."""
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


class Reporter(Protocol):
    """Takes the figures of a step; where they go is its business."""

    def log(self, step: int, metrics: Mapping[str, float | str]) -> None:
        """Record one line of metrics for a step."""
        ...

    def close(self) -> None:
        """Flush and release files."""
        ...


class Progress(Protocol):
    """Shows long work as it happens: rate, time left, success so far."""

    def stage(
        self, name: str, num_episodes: int, run_left_s: float | None = None
    ) -> AbstractContextManager[Callable[[Episode], None]]:
        """Open a stage; call the result with every finished episode.

        Args:
            name: What is going on, e.g. ``step 3/30 practise``.
            num_episodes: About how many episodes will come; 0 for work without episodes.
            run_left_s: Seconds that the whole run still takes from here on; None if not known.
        """
        ...


class Tally(Protocol):
    """Counts the groups of one collection over all ranks. Nobody waits for anybody."""

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
        """Return the values of every rank in rank order, float64 [n of that rank, m]; all ranks meet here."""
        ...

    def gather_text(self, text: str) -> list[str]:
        """Return the text of every rank in rank order; all ranks meet here."""
        ...

    def aside(self) -> "Ranks":
        """Return the same ranks for another thread, whose meetings do not get in the way of ours."""
        ...

    def tally(self, name: str) -> Tally:
        """Return the tally of that name; one name is one collection."""
        ...
