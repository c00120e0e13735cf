"""Simulator slots spread over worker processes, which are replaced when they fail."""

import mmap
import os
import time
from collections.abc import Mapping

from pi0.records import ObservationSpec
from pi0.ript.config.env import Exactness
from pi0.ript.env.checks import check_spec
from pi0.ript.env.pool.deadlines import TimeLimits
from pi0.ript.env.pool.images import SharedImages, check_video, slot_bytes
from pi0.ript.env.pool.messages import MalformedMessageError, wait_for_any
from pi0.ript.env.pool.wire import Request, blame_oldest
from pi0.ript.env.pool.worker_pool import WorkerPool
from pi0.ript.env.pool.worker_process import STOP_PATIENCE_S, WorkerProcess
from pi0.ript.env.resources import read_machine, require_memory
from pi0.ript.interfaces import Fault, Reply


class ProcessPool(WorkerPool[WorkerProcess]):
    """Slots spread round-robin over worker processes.

    A worker that ends, raises, sends malformed messages or takes too long is replaced, see
    ``WorkerPool``. Images travel through anonymous shared memory that ends with the last process.

    Example: ``with ProcessPool(policy.spec, 8, 2, max_scenes=1, num_steps_wait=10,
    timeout_s=120.0) as pool: ...``
    """

    _kind = "worker"

    def __init__(
        self,
        spec: ObservationSpec,
        num_slots: int,
        num_workers: int,
        *,
        max_scenes: int,
        num_steps_wait: int,
        timeout_s: float,
        egl_device: int | None = None,
        exactness: Exactness = "skip",
    ) -> None:
        """Start the workers; they load libraries and scenes on their own time.

        Args:
            spec: Which images to draw.
            num_slots: How many episodes can be under way at once.
            num_workers: Processes, at most one per slot.
            max_scenes: Most scenes loaded in a worker at any time.
            num_steps_wait: Settling steps after every restore.
            timeout_s: Most seconds that a request may take; a limit of its own, learned from what
                such requests take, applies sooner.
            egl_device: Which GPU draws, as EGL counts them; None leaves it to the environment.
            exactness: Whether the first scene of a process is compared with LIBERO, as ``env.exactness`` says.

        Raises:
            ValueError: Too little memory for so many simulators, or a camera that does not exist;
                no process has been started then.
        """
        super().__init__(num_slots, num_workers, max_scenes)
        check_spec(spec)
        require_memory(self.num_workers, num_slots, max_scenes, spec, read_machine())
        self._spec = spec
        self._limits = TimeLimits(timeout_s)
        self._memory_fd = os.memfd_create("pi0-ript-images")
        os.ftruncate(self._memory_fd, num_slots * slot_bytes(spec))
        self._memory = mmap.mmap(self._memory_fd, num_slots * slot_bytes(spec))
        self._images = SharedImages(spec, self._memory)
        self._settings = (max_scenes, num_steps_wait, exactness)
        self._egl_device = egl_device
        self._workers = [self._start(number) for number in range(self.num_workers)]

    @property
    def local_pids(self) -> tuple[int, ...]:
        """Return the process ids of the workers."""
        return self.pids

    @property
    def driver(self) -> Mapping[str, str]:
        """Return what draws, see ``read_driver``: the same for all workers; empty before the first is ready."""
        return next((worker.driver for worker in self._workers if worker.driver), {})

    def drop_scenes(self) -> None:
        """Free the scenes of every worker that no slot holds."""
        self._has_dropped = True
        for worker in self._workers:
            worker.drop_scenes()

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
        for worker in self._workers:
            worker.request_stop()
        deadline = time.monotonic() + STOP_PATIENCE_S
        for worker in self._workers:
            worker.stop(deadline)
        self._workers = []
        if not self._memory.closed:
            self._memory.close()
            os.close(self._memory_fd)

    def _start(self, number: int, missing_s: float | None = None) -> WorkerProcess:
        return WorkerProcess(
            number,
            self._spec,
            num_slots=len(self._slots_of(number)),
            settings=self._settings,
            memory_fd=self._memory_fd,
            memory_bytes=len(self._memory),
            images=self._images,
            limits=self._limits,
            egl_device=self._egl_device,
            missing_s=missing_s,
        )

    def _check_video(self, num_steps: int) -> None:
        check_video(num_steps)

    def _send(self, request: Request, name: str, *arguments: int | str | bytes) -> None:
        worker = self._worker(request.slot)
        try:
            super()._send(request, name, *arguments)
        except ConnectionError:
            # What it sent before it ended may say that it cannot start.
            self._pending_replies += self._receive_from(worker)
        except TimeoutError:
            self._pending_replies += self._replace_hung(worker)

    def _receive(self) -> list[Reply]:
        replies: list[Reply] = []
        while not replies:
            busy = {w.channel: w for w in self._workers if w.requests.worker_slots}
            deadline = min(worker.requests.deadline for worker in busy.values())
            for channel in wait_for_any(list(busy), max(0.0, deadline - time.monotonic())):
                replies += self._receive_from(busy[channel])
            for worker in busy.values():
                if worker in self._workers and worker.requests.is_overdue:
                    replies += self._replace_hung(worker)
        return replies

    def _receive_from(self, worker: WorkerProcess) -> list[Reply]:
        """Return all replies that have arrived from a worker."""
        replies: list[Reply] = []
        try:
            while (received := worker.receive()) is not None:
                reply = self._accept(worker, *received)
                replies.append(reply)
                if reply.fault == "raised":
                    return replies + self._replace(worker, "lost", reply.error)
        except EOFError:
            replies += self._replace(worker, "died", f"process {worker.pid} ended")
        except MalformedMessageError as error:
            reason = f"process {worker.pid} sent a malformed message: {error}"
            replies += self._replace(worker, "malformed", reason)
        return replies

    def _replace_hung(self, worker: WorkerProcess) -> list[Reply]:
        reason = f"process {worker.pid} sent no reply for {worker.requests.limit_s:.3g} s"
        self._limits.learn_hang()
        return self._replace(worker, "hung", reason)

    def _replace(self, worker: WorkerProcess, fault: Fault, reason: str) -> list[Reply]:
        """Replace a worker by another process; its oldest request gets a reply with the fault."""
        missing_s = (worker.missing_s or 0.0) + worker.requests.silent_s
        worker.kill()
        if fault == "died":
            reason += f" ({worker.exit_status})"
        return blame_oldest(self._start_replacement(worker, missing_s), fault, reason)
