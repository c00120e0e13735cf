"""One simulator actor as the pool sees it: its requests under way, in order, and its end."""

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pi0.records import ObservationSpec
from pi0.ript.config.env import Exactness
from pi0.ript.env.pool.deadlines import RequestQueue, TimeLimits
from pi0.ript.env.pool.images import unpack_images
from pi0.ript.env.pool.ledger import SceneKey
from pi0.ript.env.pool.messages import MalformedMessageError
from pi0.ript.env.pool.process_environment import actor_environment
from pi0.ript.env.pool.wire import Request, pack_spec, unpack_reply
from pi0.ript.env.pool.worker_process import STOP_PATIENCE_S
from pi0.ript.env.ray.cluster import RayCluster
from pi0.ript.interfaces import Reply

POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorSettings:
    """What every actor of a pool has in common.

    Attributes:
        kind: Class of the actors.
        spec: Which images to draw.
        max_scenes: Most scenes loaded at any time.
        num_steps_wait: Settling steps after every restore.
        exactness: Whether an actor's first scene is compared with LIBERO.
        compress: Whether images travel compressed.
        egl_device: Which GPU of its host draws, as EGL counts them; None leaves it to the host.
        memory_bytes: Memory that an actor needs on its host.
        limits: How long requests may take; learns from all actors' replies.
        start_timeout_s: Seconds that requests wait for an actor that has no host yet.
    """

    kind: type
    spec: ObservationSpec
    max_scenes: int
    num_steps_wait: int
    exactness: Exactness
    compress: bool
    egl_device: int | None
    memory_bytes: int
    limits: TimeLimits
    start_timeout_s: float


class RayWorker:
    """An actor, which may not have a host yet, and the requests it has under way, in order."""

    def __init__(
        self,
        number: int,
        cluster: RayCluster,
        settings: ActorSettings,
        *,
        num_slots: int,
        missing_s: float | None = None,
    ) -> None:
        """Request the actor from the cluster; returns before there is one.

        Args:
            number: Which of the pool's workers this is.
            cluster: Where the actor runs.
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
            settings.kind,
            memory_bytes=settings.memory_bytes,
            environment=actor_environment(settings.egl_device),
            compress=settings.compress,
        )
        start = self._actor.start.remote(
            pack_spec(settings.spec),
            num_slots,
            settings.max_scenes,
            settings.num_steps_wait,
            settings.exactness,
        )
        self._results: deque[Any] = deque([start])  # of the start, then of every request

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def oldest_result(self) -> Any:
        """Return Ray's handle of the result that comes next; None if nothing is under way."""
        return self._results[0] if self._results else None

    def send(self, request: Request, name: str, *arguments: int | str | bytes) -> None:
        """Send a slot's request."""
        self._results.append(getattr(self._actor, name).remote(request.worker_slot, *arguments))
        self.requests.add(request)

    def release(self, worker_slot: int) -> None:
        """Release the scene of one of the actor's slots; there is no reply."""
        self._actor.release.remote(worker_slot)

    def receive_start(self) -> tuple[Mapping[str, str], Mapping[str, str], str]:
        """Return the host's versions, its driver and what is wrong there, else ``""``, once the start is over.

        Raises:
            LostActorError: The actor ended while starting.
        """
        self.host, self.pid, versions, driver, problem = self._cluster.result(self._results[0])
        self._results.popleft()
        self.is_ready = True
        if self.missing_s is not None:
            self.missing_s += self.requests.silent_s
        self.requests.arrive()
        return dict(versions), dict(driver), problem

    def receive(self) -> tuple[Reply, tuple[SceneKey, ...]]:
        """Return the reply to the oldest request and the actor's loaded scenes, once they are there.

        Raises:
            LostActorError: The actor has ended.
            MalformedMessageError: It sent what cannot be a reply to the request.
        """
        values, packed_images, packed_frames = self._cluster.result(self._results[0])
        reply, loaded = unpack_reply(
            values,
            self.requests.oldest,
            self._settings.spec,
            partial(self._unpack, packed_images),
            lambda _: packed_frames,
        )
        self._settings.limits.learn_reply(reply.timings, reply.num_steps)
        self._results.popleft()
        self.requests.next()
        return reply, loaded

    def modules(self) -> frozenset[str]:
        """Return the top-level modules the actor has imported; only while nothing is under way."""
        return frozenset(self._cluster.result(self._actor.modules.remote()))

    def kill(self) -> None:
        """End the actor now."""
        self._cluster.end_actor(self._actor)
        if self.pid and self._cluster.is_ours:
            with contextlib.suppress(ProcessLookupError):  # Ray was faster
                # Ray sends a request to end first, which a process that hangs does not receive.
                os.kill(self.pid, signal.SIGKILL)

    def join(self) -> None:
        """Wait until a killed actor of this host has ended, but not for long."""
        deadline = time.monotonic() + STOP_PATIENCE_S
        while self.pid and _is_running(self.pid) and time.monotonic() < deadline:
            time.sleep(POLL_S)

    def _unpack(self, images: bytes) -> NDArray[np.uint8]:
        shape = self._settings.spec.sent_shape
        try:
            return unpack_images(images, shape, compressed=self._settings.compress)
        except ValueError as error:
            raise MalformedMessageError(str(error)) from None


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
