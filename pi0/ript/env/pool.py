"""Simulator slots behind one interface: in this process, or spread over worker processes."""

import mmap
import os
import time
from collections import deque
from multiprocessing import connection
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pi0.records import Observation, ObservationSpec
from pi0.ript.env.checks import check_actions
from pi0.ript.env.host import SceneHost, SceneKey
from pi0.ript.env.worker import image_bytes
from pi0.ript.env.worker_process import WorkerProcess
from pi0.ript.interfaces import Reply
from pi0.ript.types import InitialState

DEFAULT_MAX_SCENES = 4
DEFAULT_STEPS_WAIT = 10
DEFAULT_TIMEOUT_S = 120.0


class PoolClosedError(RuntimeError):
    """A closed pool was asked to work."""


class _Slots:
    """Bookkeeping both pools share: which slots have a command under way."""

    def __init__(self, num_slots: int) -> None:
        if num_slots < 1:
            raise ValueError(f"num_slots must be >= 1, got {num_slots}")
        self._num_slots = num_slots
        self._busy: set[int] = set()
        self._is_closed = False

    @property
    def num_slots(self) -> int:
        """Return how many episodes can be under way at once."""
        return self._num_slots

    def _require_open(self) -> None:
        if self._is_closed:
            raise PoolClosedError("the simulator pool is closed; make a new one")

    def _begin(self, slot: int) -> None:
        self._require_open()
        if not 0 <= slot < self._num_slots:
            raise ValueError(f"slot must be in 0..{self._num_slots - 1}, got {slot}")
        if slot in self._busy:
            raise ValueError(f"slot {slot} already has a command under way")
        self._busy.add(slot)

    def close(self) -> None:
        """End every simulator and forget what is under way; safe to call twice."""
        self._is_closed = True
        self._busy.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class InlinePool(_Slots):
    """All slots in this process; commands run, in order, when ``wait`` is called.

    Example: ``with InlinePool(policy.spec, num_slots=1) as pool: ...``
    """

    def __init__(
        self,
        spec: ObservationSpec,
        num_slots: int,
        *,
        max_scenes: int = DEFAULT_MAX_SCENES,
        num_steps_wait: int = DEFAULT_STEPS_WAIT,
    ) -> None:
        """Load the simulator libraries; scenes are built when first needed."""
        super().__init__(num_slots)
        self._host = SceneHost(spec, num_slots, max_scenes, num_steps_wait)
        self._queue: deque[tuple[int, InitialState | NDArray[np.float32]]] = deque()

    def restore(self, slot: int, initial_state: InitialState) -> None:
        """Queue bringing the slot to the settled initial state."""
        self._begin(slot)
        self._queue.append((slot, initial_state))

    def execute(self, slot: int, actions: NDArray[np.float32]) -> None:
        """Queue up to h control steps, float32 [h, 7]."""
        check_actions(actions)
        self._begin(slot)
        self._queue.append((slot, actions))

    def wait(self) -> list[Reply]:
        """Run all queued commands and return their replies.

        Raises:
            PoolClosedError: The pool was closed; nothing is under way any more.
        """
        self._require_open()
        assert self._queue, "wait needs a command under way"
        replies: list[Reply] = []
        while self._queue:
            slot, order = self._queue.popleft()
            run = self._host.restore if isinstance(order, InitialState) else self._host.execute
            self._busy.discard(slot)
            replies.append(run(slot, order))  # pyright: ignore[reportArgumentType]
        return replies

    def wait_until_ready(self) -> None:
        """Return at once: the libraries were loaded, and rendering tried, by the constructor."""

    def loaded_scenes(self, slot: int) -> frozenset[SceneKey]:
        """Return the scenes that are cheap to restore in this slot."""
        del slot  # all slots share one process
        return frozenset(self._host.loaded)

    def close(self) -> None:
        """Free all scenes and drop queued commands; safe to call twice."""
        super().close()
        self._queue.clear()
        self._host.close()


class ProcessPool(_Slots):
    """Slots spread round-robin over worker processes.

    A worker that dies or stays silent is replaced, and every command it had under way is answered
    with an error. A slot whose worker was replaced between two commands answers the next one with
    an error. Pictures travel through anonymous shared memory that ends with the last process.

    Example: ``with ProcessPool(policy.spec, num_slots=8, num_workers=2) as pool: ...``
    """

    def __init__(
        self,
        spec: ObservationSpec,
        num_slots: int,
        num_workers: int | None = None,
        *,
        max_scenes: int = DEFAULT_MAX_SCENES,
        num_steps_wait: int = DEFAULT_STEPS_WAIT,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        """Start the workers; they load libraries and scenes on their own time.

        Args:
            spec: Which pictures to draw.
            num_slots: How many episodes can be under way at once.
            num_workers: Processes; None takes one per core, at most one per slot.
            max_scenes: Scenes kept loaded per worker; more only while its slots need more at once.
            num_steps_wait: Settling steps after every restore.
            timeout_s: Seconds of silence after which a busy worker counts as hung.
        """
        super().__init__(num_slots)
        self._spec = spec
        self._timeout_s = timeout_s
        self._memory_fd = os.memfd_create("pi0-ript-images")
        os.ftruncate(self._memory_fd, max(1, num_slots * image_bytes(spec)))
        self._memory = mmap.mmap(self._memory_fd, max(1, num_slots * image_bytes(spec)))
        count = min(num_workers or len(os.sched_getaffinity(0)), num_slots)
        self._settings = (max_scenes, num_steps_wait)
        self._unheard: list[Reply] = []
        self._workers = [self._start(number, count) for number in range(count)]

    @property
    def pids(self) -> tuple[int, ...]:
        """Return the process ids of the workers."""
        return tuple(worker.pid for worker in self._workers)

    def restore(self, slot: int, initial_state: InitialState) -> None:
        """Start bringing the slot to the settled initial state."""
        s = initial_state
        state = np.ascontiguousarray(s.state, dtype=np.float64).tobytes()
        self._send(slot, "restore", s.suite, s.task_id, s.index, s.fixture_seed, state)

    def execute(self, slot: int, actions: NDArray[np.float32]) -> None:
        """Start up to h control steps, float32 [h, 7]."""
        check_actions(actions)
        self._send(slot, "execute", np.ascontiguousarray(actions, dtype=np.float32).tobytes())

    def wait(self) -> list[Reply]:
        """Block until at least one command has finished and return all finished ones.

        Raises:
            RenderingError: Workers cannot render on this machine.
            PoolClosedError: The pool was closed; nothing is under way any more.
            RuntimeError: A worker ended while starting.
        """
        self._require_open()
        assert self._busy, "wait needs a command under way"
        replies = self._unheard
        self._unheard = []
        while not replies:
            busy = {worker.connection: worker for worker in self._workers if worker.busy}
            patience = min(worker.deadline for worker in busy.values()) - time.monotonic()
            heard = connection.wait(list(busy), timeout=max(0.0, patience))
            for ready in heard:
                replies += self._hear(busy[ready])  # pyright: ignore[reportArgumentType]
            replies += [r for worker in busy.values() if worker.is_overdue for r in self._replace(
                worker, f"no answer for {self._timeout_s:g} s")]  # fmt: skip
        self._busy -= {reply.slot for reply in replies}
        return replies

    def loaded_scenes(self, slot: int) -> frozenset[SceneKey]:
        """Return the scenes that are cheap to restore in this slot."""
        return frozenset(self._worker(slot).loaded)

    def wait_until_ready(self) -> None:
        """Block until every worker has loaded its libraries.

        Raises:
            RenderingError: Workers cannot render on this machine.
        """
        self.worker_modules()

    def worker_modules(self) -> list[frozenset[str]]:
        """Return the top-level modules each worker has imported; only while nothing is under way."""
        assert not self._busy, "worker_modules needs an idle pool"
        return [worker.modules() for worker in self._workers]

    def close(self) -> None:
        """End every worker and free the shared memory; safe to call twice."""
        super().close()
        self._unheard.clear()
        for worker in self._workers:
            worker.ask_to_stop()
        for worker in self._workers:
            worker.stop()
        self._workers = []
        if not self._memory.closed:
            self._memory.close()
            os.close(self._memory_fd)

    def _start(self, number: int, count: int) -> WorkerProcess:
        return WorkerProcess(
            number,
            self._spec,
            num_slots=len(range(number, self._num_slots, count)),
            settings=self._settings,
            memory_fd=self._memory_fd,
            memory_bytes=len(self._memory),
            timeout_s=self._timeout_s,
        )

    def _worker(self, slot: int) -> WorkerProcess:
        return self._workers[slot % len(self._workers)]

    def _send(self, slot: int, name: str, *rest: int | str | bytes) -> None:
        self._begin(slot)
        worker = self._worker(slot)
        try:
            worker.send(slot, (name, slot // len(self._workers), slot, *rest))
        except ConnectionError:
            self._unheard += self._hear(worker)  # its last words may say that it cannot start

    def _hear(self, worker: WorkerProcess) -> list[Reply]:
        """Return all replies that have arrived from a worker."""
        replies: list[Reply] = []
        try:
            while worker.connection.poll():
                message = worker.receive()
                if message[0] == "reply":
                    replies.append(self._unpack(worker, message[1:]))
        except (EOFError, ConnectionError):
            replies += self._replace(worker, f"process {worker.pid} died")
        return replies

    def _unpack(self, worker: WorkerProcess, message: tuple) -> Reply:
        place, proprio, is_success, num_steps, error, timings, loaded = message
        slot = place * len(self._workers) + worker.number
        worker.finished(slot, loaded)
        return Reply(
            slot=slot,
            observation=self._observation(slot, proprio) if proprio else None,
            is_success=is_success,
            num_steps=num_steps,
            error=error,
            timings=dict(timings),
        )

    def _observation(self, slot: int, proprio: bytes) -> Observation:
        spec, size = self._spec, image_bytes(self._spec)
        pixels = self._memory[slot * size : (slot + 1) * size]
        shape = (len(spec.cameras), spec.height, spec.width, 3)
        return Observation(
            images=np.frombuffer(pixels, dtype=np.uint8).reshape(shape),
            proprio=np.frombuffer(proprio, dtype=np.float64),
        )

    def _replace(self, worker: WorkerProcess, reason: str) -> list[Reply]:
        lost = sorted(worker.busy)
        worker.busy.clear()
        worker.kill()
        self._workers[worker.number] = self._start(worker.number, len(self._workers))
        return [
            Reply(slot=slot, observation=None, is_success=False, num_steps=0, error=reason)
            for slot in lost
        ]
