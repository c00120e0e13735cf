"""The parent's view of one worker process."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from pi0.records import ObservationSpec
from pi0.ript.env.headless import RenderingError
from pi0.ript.env.host import SceneKey
from pi0.ript.env.messages import receive, send

STOP_PATIENCE_S = 5.0
# One simulator per core: rendering and linear algebra must not start threads that fight.
SINGLE_THREADED = {"LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
PACKAGE_ROOT = str(Path(__file__).parents[3])


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
    ) -> None:
        """Start the process; returns before it has loaded anything."""
        self.number = number
        self.busy: set[int] = set()
        self.loaded: tuple[SceneKey, ...] = ()
        self._timeout_s = timeout_s
        self._last_heard = time.monotonic()
        self._has_started = False
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # our own module and numbers only
                [sys.executable, "-m", "pi0.ript.env.worker",
                 str(theirs.fileno()), str(memory_fd), str(memory_bytes)],
                pass_fds=(theirs.fileno(), memory_fd),
                env=_environment(),
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
            RuntimeError: The worker ended while starting, without a word.
        """
        try:
            message = receive(self.connection)
        except EOFError:
            if not self._has_started:
                raise RuntimeError("a simulator process ended while starting; see above") from None
            raise
        if message[0] == "failed":
            raise RenderingError(f"a simulator process could not start: {message[1]}")
        self._has_started = True
        self._last_heard = time.monotonic()
        return message

    def finished(self, slot: int, loaded: tuple[SceneKey, ...]) -> None:
        """Note that a slot's command is done and which scenes are loaded now."""
        self.busy.discard(slot)
        self.loaded = loaded

    def modules(self) -> frozenset[str]:
        """Return the top-level modules the worker has imported."""
        send(self.connection, ("modules",))
        message = self.receive()
        while message[0] != "modules":
            message = self.receive()
        return frozenset(message[1])

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


def _environment() -> dict[str, str]:
    paths = [PACKAGE_ROOT, os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        **SINGLE_THREADED,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }
