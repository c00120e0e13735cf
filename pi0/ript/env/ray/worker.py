"""The program's view of one simulator actor: what it was asked and in which order it answers."""

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pi0.records import ObservationSpec
from pi0.ript.env.pool.deadlines import RequestQueue, TimeLimits
from pi0.ript.env.pool.images import unpack_images
from pi0.ript.env.pool.messages import MalformedMessageError
from pi0.ript.env.pool.process_environment import actor_environment
from pi0.ript.env.pool.wire import Answer, Request, unpack_frames, unpack_reply
from pi0.ript.env.pool.worker_process import STOP_PATIENCE_S
from pi0.ript.env.ray.actor import SimulatorActor
from pi0.ript.env.ray.cluster import RayCluster

POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorSettings:
    """What every actor of a pool has in common.

    Attributes:
        spec: Which pictures to draw.
        max_scenes: Most scenes loaded at any time.
        num_steps_wait: Settling steps after every restore.
        compress: Whether pictures travel compressed.
        egl_device: Which GPU of its host draws, as EGL counts them; None leaves it to the host.
        memory_bytes: What an actor's host must have left.
        limits: How long commands may take; learns from all actors' answers.
        start_timeout_s: Seconds that commands wait for an actor that has no host yet.
    """

    spec: ObservationSpec
    max_scenes: int
    num_steps_wait: int
    compress: bool
    egl_device: int | None
    memory_bytes: int
    limits: TimeLimits
    start_timeout_s: float


class RayWorker:
    """An actor, which may not have a host yet, and its requests in the order of their answers."""

    def __init__(
        self,
        number: int,
        cluster: RayCluster,
        settings: ActorSettings,
        *,
        num_slots: int,
        missing_s: float | None = None,
    ) -> None:
        """Ask the cluster for the actor; returns before there is one.

        Args:
            number: Which of the pool's workers this is.
            cluster: Where the actor lives.
            settings: What it has in common with the others.
            num_slots: Slots of this actor.
            missing_s: For a replacement, the seconds for which its predecessor did no work.
        """
        self.number = number
        self.missing_s = missing_s
        self.is_ready = False
        self.host, self.pid = "", 0
        self._cluster = cluster
        self._settings = settings
        self.requests = RequestQueue(settings.limits, arrival_s=settings.start_timeout_s)
        self._actor = cluster.start_actor(
            SimulatorActor,
            memory_bytes=settings.memory_bytes,
            environment=actor_environment(settings.egl_device, is_this_host=cluster.is_ours),
            compress=settings.compress,
        )
        spec = settings.spec
        start = self._actor.start.remote(
            (spec.cameras, spec.height, spec.width, spec.quality),
            num_slots,
            settings.max_scenes,
            settings.num_steps_wait,
        )
        self._requests: deque[Any] = deque([start])  # the start, then one for every command

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def oldest_request(self) -> Any:
        """Return the request that is answered next, None if there is none."""
        return self._requests[0] if self._requests else None

    def send(self, request: Request, name: str, *arguments: int | str | bytes) -> None:
        """Send a slot's command."""
        self._requests.append(getattr(self._actor, name).remote(request.place, *arguments))
        self.requests.add(request)

    def release(self, place: int) -> None:
        """Let the actor's own slot number ``place`` let go of its scene; nobody waits for it."""
        self._actor.release.remote(place)

    def hear_start(self) -> tuple[Mapping[str, str], str]:
        """Return the host's versions and what is wrong there, once the answer to the start has come.

        Raises:
            LostActorError: The actor ended while starting.
        """
        self.host, self.pid, versions, problem = self._cluster.answer(self._requests[0])
        self._requests.popleft()
        self.is_ready = True
        if self.missing_s is not None:
            self.missing_s += self.requests.silent_s
        self.requests.arrive()
        return dict(versions), problem

    def hear(self) -> Answer:
        """Return the answer to the oldest command, once it has come.

        Raises:
            LostActorError: The actor is gone.
            MalformedMessageError: It sent what cannot be an answer.
        """
        request = self.requests.oldest
        values, packed_images, packed_frames = self._cluster.answer(self._requests[0])
        wire = unpack_reply(values)
        request.check(wire)
        frames = unpack_frames(wire, packed_frames, self._settings.spec)
        images = None if wire.proprio is None else self._unpack(packed_images)
        self._settings.limits.learn_reply(wire.timings, wire.num_steps)
        self._requests.popleft()
        self.requests.next()
        return Answer(slot=request.position, wire=wire, images=images, frames=frames)

    def modules(self) -> frozenset[str]:
        """Return the top-level modules the actor has imported; only while nothing is under way."""
        return frozenset(self._cluster.answer(self._actor.modules.remote()))

    def kill(self) -> None:
        """End the actor now."""
        self._cluster.end_actor(self._actor)
        if self.pid and self._cluster.is_ours:
            with contextlib.suppress(ProcessLookupError):  # Ray was faster
                os.kill(self.pid, signal.SIGKILL)  # Ray asks first, and who hangs does not listen

    def join(self) -> None:
        """Wait until a killed actor of this host has ended, but not for long."""
        patience = time.monotonic() + STOP_PATIENCE_S
        while self.pid and _is_running(self.pid) and time.monotonic() < patience:
            time.sleep(POLL_S)

    def _unpack(self, images: bytes) -> NDArray[np.uint8]:
        spec = self._settings.spec
        shape = (len(spec.cameras), spec.height, spec.width, 3)
        try:
            return unpack_images(images, shape, compressed=self._settings.compress)
        except ValueError as error:
            raise MalformedMessageError(str(error)) from None


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
