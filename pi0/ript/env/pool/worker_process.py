"""One worker process as the pool sees it: its socket, its requests under way, and its end."""

import contextlib
import fcntl
import logging
import os
import signal
import socket
import subprocess
import time
from functools import partial
from typing import Any

from pi0.records import ObservationSpec
from pi0.ript.config.env import Exactness
from pi0.ript.env.libero.headless import GL_FACTS, RenderingError
from pi0.ript.env.pool.deadlines import RequestQueue, TimeLimits
from pi0.ript.env.pool.images import SharedImages
from pi0.ript.env.pool.ledger import SceneKey
from pi0.ript.env.pool.messages import Channel, MalformedMessageError
from pi0.ript.env.pool.process_environment import simulator_command, worker_environment
from pi0.ript.env.pool.wire import START, Request, pack_spec, unpack_reply
from pi0.ript.interfaces import Reply

STOP_PATIENCE_S = 5.0
KILL_PATIENCE_S = 10.0  # a process inside a driver that hangs ends only when the driver returns

logger = logging.getLogger(__name__)


class Lifeline:
    """A pipe whose far end a child inherits; when the near end closes, the kernel kills the child.

    The kernel closes the near end when the owner ends, however it ends. Unlike a parent-death signal
    it does not fire when only the thread ends that started the child.

    Example: ``line = Lifeline()``, start the child with ``pass_fds=(line.far_end,)``, then
    ``line.tie(child.pid)``.
    """

    def __init__(self) -> None:
        """Open the pipe."""
        self.far_end, self._near_end = os.pipe()

    def tie(self, pid: int) -> None:
        """Bind the child that has inherited the far end."""
        fcntl.fcntl(self.far_end, fcntl.F_SETOWN, pid)
        fcntl.fcntl(self.far_end, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(self.far_end, fcntl.F_GETFL)
        fcntl.fcntl(self.far_end, fcntl.F_SETFL, flags | os.O_ASYNC)
        os.close(self.far_end)  # from here on the child alone holds it

    def cut(self) -> None:
        """End the child; safe to call twice."""
        if self._near_end >= 0:
            os.close(self._near_end)
            self._near_end = -1  # the number may soon be another file's


class WorkerStartError(OSError):
    """A simulator process could not start; the message says what is known."""


class WorkerProcess:
    """A running worker, its socket, and the requests it has under way, in order.

    Attributes:
        driver: What it draws with, see ``read_driver``; empty until it has started.
    """

    def __init__(
        self,
        number: int,
        spec: ObservationSpec,
        *,
        num_slots: int,
        settings: tuple[int, int, Exactness],
        memory_fd: int,
        memory_bytes: int,
        images: SharedImages,
        limits: TimeLimits,
        egl_device: int | None,
        missing_s: float | None = None,
    ) -> None:
        """Start the process; returns before it has loaded anything.

        Args:
            number: Which of the pool's workers this is.
            spec: Which images to draw.
            num_slots: Slots of this worker.
            settings: Most scenes loaded, settling steps, what is done about exactness.
            memory_fd: Shared memory for the images of all workers.
            memory_bytes: Its size.
            images: What lies in it.
            limits: How long requests may take; learns from this worker's replies.
            egl_device: Which GPU draws; None leaves it to the environment.
            missing_s: For a replacement, the seconds for which its predecessor did no work.
        """
        self.number = number
        self.missing_s = missing_s
        self.driver: dict[str, str] = {}
        self._limits = limits
        self._spec, self._images = spec, images
        self.requests = RequestQueue(limits, [START])
        self._has_started = False
        ours, theirs = socket.socketpair()
        self._lifeline = Lifeline()
        with theirs:
            self._process = subprocess.Popen(  # our own module and numbers only
                simulator_command(
                    "pi0.ript.env.pool.worker", theirs.fileno(), memory_fd, memory_bytes
                ),
                pass_fds=(theirs.fileno(), memory_fd, self._lifeline.far_end),
                env=worker_environment(egl_device),
                stdin=subprocess.DEVNULL,  # LIBERO opens a debugger on some failures
                start_new_session=True,  # Ctrl-C goes to the program, which then closes the pool
            )
        self._lifeline.tie(self._process.pid)
        self.channel = Channel(ours)
        with contextlib.suppress(ConnectionError):  # an end this early is noticed when we receive
            self.channel.send(("start", self.requests.began, pack_spec(spec), num_slots, *settings))

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    def send(self, request: Request, name: str, *arguments: int | str | bytes) -> None:
        """Send a slot's request.

        Raises:
            ConnectionError: The worker has ended.
            TimeoutError: It has not read earlier messages for too long.
        """
        self.requests.add(request)
        message = (name, request.worker_slot, request.slot, *arguments)
        self.channel.send(message, self.requests.limit_s)

    def receive(self) -> tuple[Reply, tuple[SceneKey, ...]] | None:
        """Return the reply to the oldest request and the worker's loaded scenes, if they have arrived.

        Raises:
            EOFError: The worker has ended.
            MalformedMessageError: It sent what cannot be a reply to the request.
            RenderingError: It could not start; the message says why.
            WorkerStartError: It ended while starting, without a reason, and is no replacement.
        """
        message = self._take()
        if message is None:
            return None
        if message[0] != "reply":
            raise MalformedMessageError(f"a message of kind {message[0]!r:.80}")
        return self._unpack(message[1:])

    def release(self, worker_slot: int) -> None:
        """Release the scene of one of the worker's slots; there is no reply."""
        with contextlib.suppress(ConnectionError, TimeoutError):  # one that has ended holds nothing
            self.channel.send(("release", worker_slot), STOP_PATIENCE_S)

    def drop_scenes(self) -> None:
        """Free the scenes that no slot of the worker holds; there is no reply."""
        with contextlib.suppress(ConnectionError, TimeoutError):  # one that has ended holds nothing
            self.channel.send(("drop",), STOP_PATIENCE_S)

    def modules(self) -> frozenset[str]:
        """Return the top-level modules the worker has imported; waits until it has started.

        Raises:
            RenderingError: The worker could not start; the message says why.
            WorkerStartError: The worker ended while starting, or takes too long.
        """
        with contextlib.suppress(ConnectionError):  # the reason for its end can still be received
            self.channel.send(("modules",))
        limit_s = self._limits.limit_s(START.work)
        try:
            while (message := self._take()) is None:
                if not self.channel.wait(limit_s):
                    raise WorkerStartError(
                        f"simulator process {self.pid} did not respond within {limit_s:g} s; "
                        "raise env.timeout_s on a slow machine"
                    )
        except EOFError:
            raise WorkerStartError(self._reason_for_exit()) from None
        return frozenset(message[1:])

    def _take(self) -> tuple[Any, ...] | None:
        """Return the next message that is not about starting, if it has arrived."""
        try:
            while (message := self.channel.take()) is not None and not self._has_started:
                self._begin(message)
        except EOFError:
            # A replacement may be killed like any other worker; where none has ever started,
            # another one would not start either.
            if self._has_started or self.missing_s is not None:
                raise
            raise WorkerStartError(self._reason_for_exit()) from None
        return message

    def _unpack(self, values: tuple[Any, ...]) -> tuple[Reply, tuple[SceneKey, ...]]:
        """Return the reply to the oldest request, which is done then, and the loaded scenes."""
        if not self.requests:
            raise MalformedMessageError("a reply to no request")
        request = self.requests.oldest
        reply, loaded = unpack_reply(
            values,
            request,
            self._spec,
            partial(self._images.read_images, request.slot),
            partial(self._images.take_frames, request.slot),
        )
        self._limits.learn_reply(reply.timings, reply.num_steps)
        self.requests.next()
        return reply, loaded

    def _begin(self, message: tuple[Any, ...]) -> None:
        match message:
            case ("failed", str(reason)):
                raise RenderingError(f"a simulator process could not start: {reason}")
            case ("broken", str(reason)):
                raise WorkerStartError(f"a simulator process could not start: {reason}")
            case ("ready", float(seconds), str(), str(), str()) if seconds >= 0:
                self._has_started = True
                self.driver = dict(zip(GL_FACTS, message[2:], strict=True))
                self._limits.learn("start", seconds)
                if self.missing_s is not None:
                    self.missing_s += seconds
                self.requests.next()
            case _:
                raise MalformedMessageError(f"a first message of kind {message[0]!r:.80}")

    def _reason_for_exit(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_PATIENCE_S)
        reason = self.exit_status
        if (self._process.returncode or 0) >= 0:
            reason += "; its last lines are above"
        if self._process.returncode == -signal.SIGKILL:
            reason += ", often too little memory: lower env.num_workers or env.max_scenes"
        return f"simulator process {self.pid} ended while starting ({reason})"

    @property
    def exit_status(self) -> str:
        """Return how the process ended, e.g. ``exit status 1`` or ``SIGKILL``."""
        status = self._process.poll()
        if status is None:
            return "still running"
        return f"exit status {status}" if status >= 0 else _signal_name(-status)

    def request_stop(self) -> None:
        """Request that the worker ends by itself, unless it is busy or has ended."""
        if not self.requests and self._process.poll() is None:
            with contextlib.suppress(ConnectionError, TimeoutError):
                self.channel.send(("stop",), STOP_PATIENCE_S)

    def stop(self, deadline: float) -> None:
        """Wait until a monotonic time for a worker to end by itself, then end it."""
        if not self.requests:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(max(0.0, deadline - time.monotonic()))
        self.kill()

    def kill(self) -> None:
        """End the process now, also if it is stopped."""
        self._process.kill()
        try:
            self._process.wait(KILL_PATIENCE_S)
        except subprocess.TimeoutExpired:
            logger.warning("process %d was killed but does not end; going on without it", self.pid)
        self.channel.close()
        self._lifeline.cut()


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):  # real-time signals have no names
        return signal.Signals(number).name
    return f"signal {number}"
