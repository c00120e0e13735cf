"""The parent's view of one worker process."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from pi0.records import ObservationSpec
from pi0.ript.env.egl_device import CUDA_VARIABLE, EGL_VARIABLE
from pi0.ript.env.headless import RenderingError
from pi0.ript.env.messages import receive, send

STOP_PATIENCE_S = 5.0
# One simulator per core: rendering and linear algebra must not start threads that fight.
SINGLE_THREADED = {"LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
PACKAGE_ROOT = str(Path(__file__).parents[3])


class WorkerStartError(OSError):
    """A simulator process could not begin its work; says what is known."""


class WorkerProcess:
    """A running worker, its socket, and the commands it has under way."""

    def __init__(
        self,
        number: int,
        spec: ObservationSpec,
        *,
        num_slots: int,
        settings: tuple[int, int],
        memory_fd: int,
        memory_bytes: int,
        timeout_s: float,
        egl_device: int | None,
    ) -> None:
        """Start the process; returns before it has loaded anything."""
        self.number = number
        self.busy: set[int] = set()
        self._timeout_s = timeout_s
        self._last_heard = time.monotonic()
        self._has_started = False
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # our own module and numbers only
                [sys.executable, "-m", "pi0.ript.env.worker",
                 str(theirs.fileno()), str(memory_fd), str(memory_bytes)],
                pass_fds=(theirs.fileno(), memory_fd),
                env=worker_environment(egl_device),
                stdin=subprocess.DEVNULL,  # LIBERO opens a debugger on some failures
                start_new_session=True,  # Ctrl-C is for the program, which then closes the pool
            )  # fmt: skip
        self.connection = Connection(ours.detach())
        send(
            self.connection,
            ("start", spec.cameras, spec.height, spec.width, spec.quality, num_slots, *settings),
        )

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    @property
    def deadline(self) -> float:
        """Return the monotonic time at which a busy worker counts as hung."""
        return self._last_heard + self._timeout_s

    @property
    def is_overdue(self) -> bool:
        """Return whether the worker has been silent for too long while it had work."""
        return bool(self.busy) and time.monotonic() >= self.deadline

    def send(self, slot: int, command: tuple) -> None:
        """Send a slot's command."""
        if not self.busy:
            self._last_heard = time.monotonic()
        self.busy.add(slot)
        send(self.connection, command)

    def receive(self) -> tuple:
        """Return the next message.

        Raises:
            RenderingError: The worker could not start; it says why.
            WorkerStartError: The worker ended while starting, without a word.
        """
        try:
            message = receive(self.connection)
        except (EOFError, ConnectionError):
            if not self._has_started:
                raise WorkerStartError(self._last_words()) from None
            raise
        if message[0] == "failed":
            raise RenderingError(f"a simulator process could not start: {message[1]}")
        self._has_started = True
        self._last_heard = time.monotonic()
        return message

    def finished(self, slot: int) -> None:
        """Note that a slot's command is done."""
        self.busy.discard(slot)

    def release(self, place: int) -> None:
        """Let the worker's own slot number ``place`` let go of its scene; there is no reply."""
        with contextlib.suppress(ConnectionError):  # a worker that is gone holds nothing
            send(self.connection, ("release", place))

    def modules(self) -> frozenset[str]:
        """Return the top-level modules the worker has imported; waits until it has started.

        Raises:
            RenderingError: The worker could not start; it says why.
            WorkerStartError: The worker ended while starting, or takes too long.
        """
        with contextlib.suppress(ConnectionError):  # its last words can still be received
            send(self.connection, ("modules",))
        message = self._expect()
        while message[0] != "modules":
            message = self._expect()
        return frozenset(message[1])

    def _expect(self) -> tuple:
        if not self.connection.poll(self._timeout_s):
            raise WorkerStartError(
                f"simulator process {self.pid} did not answer within {self._timeout_s:g} s; "
                "raise env.timeout_s on a slow machine"
            )
        return self.receive()

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_PATIENCE_S)
        status = self._process.poll() or 0
        reason = f"exit status {status}; its last lines are above"
        if status < 0:
            reason = signal.Signals(-status).name
        if status == -signal.SIGKILL:
            reason += ", often too little memory: lower env.num_workers or env.max_scenes"
        return f"simulator process {self.pid} ended while starting ({reason})"

    def ask_to_stop(self) -> None:
        """Ask the worker to end by itself, unless it is busy or gone."""
        if not self.busy and self._process.poll() is None:
            try:
                send(self.connection, ("stop",))
            except ConnectionError:
                return

    def stop(self) -> None:
        """Wait for an asked worker to end, then make sure."""
        if not self.busy:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_PATIENCE_S)
        self.kill()

    def kill(self) -> None:
        """End the process now."""
        self._process.kill()
        self._process.wait()
        self.connection.close()


def worker_environment(egl_device: int | None) -> dict[str, str]:
    """Return the environment of a worker: ours, single-threaded, drawing on the given GPU.

    Args:
        egl_device: Index among the devices of EGL; None keeps what the environment says.
    """
    paths = [PACKAGE_ROOT, os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        **SINGLE_THREADED,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }
    # Simulators compute nothing on a GPU, and robosuite stumbles over an empty list and over one
    # without the device it draws on.
    environment.pop(CUDA_VARIABLE, None)
    if egl_device is not None:
        environment[EGL_VARIABLE] = str(egl_device)
    return environment
