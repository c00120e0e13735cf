"""Simulator slots spread over worker processes, which are replaced when they fail."""

import mmap
import os
import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pi0.records import Observation, ObservationSpec
from pi0.ript.env.capacity import require_memory
from pi0.ript.env.checks import check_actions, check_spec
from pi0.ript.env.commands import Command, chunk_command
from pi0.ript.env.host import lost
from pi0.ript.env.ledger import SceneLedger, SlotLedger
from pi0.ript.env.machine import read_machine
from pi0.ript.env.messages import MalformedMessageError, wait_for_any
from pi0.ript.env.replies import WireReply
from pi0.ript.env.shared_pictures import SharedPictures, check_film, slot_bytes
from pi0.ript.env.suites import check_initial_state
from pi0.ript.env.time_limits import TimeLimits, Work
from pi0.ript.env.worker_process import STOP_PATIENCE_S, WorkerProcess
from pi0.ript.film_strip import FilmStrip
from pi0.ript.interfaces import Fault, Reply
from pi0.ript.types import InitialState

DEFAULT_MAX_SCENES = 4
DEFAULT_STEPS_WAIT = 10
DEFAULT_TIMEOUT_S = 120.0


class ProcessPool(SlotLedger):
    """Slots spread round-robin over worker processes.

    A worker that dies, raises, answers nonsense or takes too long is replaced. The oldest command
    that it had under way is answered with that fault, every other one with ``lost``; so is the next
    ``execute`` of a slot whose simulation went down between two commands. Pictures travel through
    anonymous shared memory that ends with the last process.

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
        egl_device: int | None = None,
    ) -> None:
        """Start the workers; they load libraries and scenes on their own time.

        Args:
            spec: Which pictures to draw.
            num_slots: How many episodes can be under way at once.
            num_workers: Processes, at most one per slot; None takes one per core.
            max_scenes: Most scenes loaded in a worker at any time.
            num_steps_wait: Settling steps after every restore.
            timeout_s: Seconds a command may take at most; a limit of its own, learned from what
                such commands take, ends it sooner.
            egl_device: Which GPU draws, as EGL counts them; None leaves it to the environment.

        Raises:
            ValueError: Too little memory for so many simulators, or a camera that does not exist;
                no process has been started then.
        """
        machine = read_machine()
        num_workers = min(num_slots, num_workers or machine.num_cores)
        super().__init__(num_slots, num_workers, max_scenes)
        check_spec(spec)
        require_memory(num_workers, num_slots, max_scenes, spec, machine)
        self._spec = spec
        self._limits = TimeLimits(timeout_s)
        self._memory_fd = os.memfd_create("pi0-ript-images")
        os.ftruncate(self._memory_fd, num_slots * slot_bytes(spec))
        self._memory = mmap.mmap(self._memory_fd, num_slots * slot_bytes(spec))
        self._pictures = SharedPictures(spec, self._memory)
        self._settings = (max_scenes, num_steps_wait)
        self._egl_device = egl_device
        self._unheard: list[Reply] = []
        self._has_dropped = False
        self._bereaved: set[int] = set()  # slots whose simulation went down with a worker
        self._workers = [self._start(number) for number in range(num_workers)]

    @property
    def pids(self) -> tuple[int, ...]:
        """Return the process ids of the workers."""
        return tuple(worker.pid for worker in self._workers)

    def restore(self, slot: int, initial_state: InitialState) -> None:
        """Start bringing the slot to the settled initial state."""
        s = initial_state
        check_initial_state(s)
        work: dict[Work, int] = {"restore": 1}
        ledger, scene = self._ledger(slot), (s.suite, s.task_id)
        # A reply sent before scenes were dropped still lists them.
        if scene not in ledger.loaded or (self._has_dropped and scene not in ledger.held):
            work["build"] = 1
        self._begin_restore(slot, s)
        self._bereaved.discard(slot)
        state = np.ascontiguousarray(s.state, dtype=np.float64).tobytes()
        command = Command(place=slot // self.num_workers, position=slot, work=work)
        self._send(slot, command, "restore", s.suite, s.task_id, s.index, s.fixture_seed, state)

    def execute(
        self,
        slot: int,
        actions: NDArray[np.float32],
        *,
        look: bool = True,
        film: bool = False,
    ) -> None:
        """Start up to h control steps, float32 [h, 7]; no picture if nobody looks, all for a film."""
        check_actions(actions)
        if film:
            check_film(len(actions))
        self._begin(slot)
        if slot in self._bereaved:
            self._unheard.append(lost(slot, "the simulation went down with its worker"))
            return
        chunk = np.ascontiguousarray(actions, dtype=np.float32).tobytes()
        command = chunk_command(slot, self.num_workers, len(actions), look=look, film=film)
        self._send(slot, command, "execute", chunk, look, film)

    def wait(self) -> list[Reply]:
        """Block until at least one command has finished and return all finished ones.

        Raises:
            RenderingError: Workers cannot render on this machine.
            PoolClosedError: The pool was closed; nothing is under way any more.
            WorkerStartError: A worker ended while starting.
        """
        self._require_open()
        assert self._busy, "wait needs a command under way"
        replies = self._unheard
        self._unheard = []
        while not replies:
            busy = {worker.channel: worker for worker in self._workers if worker.commands.places}
            patience = min(worker.commands.deadline for worker in busy.values()) - time.monotonic()
            for channel in wait_for_any(list(busy), max(0.0, patience)):
                replies += self._hear(busy[channel])
            for worker in busy.values():
                if worker in self._workers and worker.commands.is_overdue:
                    replies += self._replace_hung(worker)
        self._busy -= {reply.slot for reply in replies}
        return replies

    def release(self, slot: int) -> None:
        """Say that the slot's episode is over, so that its scene may make room for another."""
        self._ledger(slot).release(slot)
        self._workers[self.worker_of(slot)].release(slot // self.num_workers)

    @property
    def local_pids(self) -> tuple[int, ...]:
        """Return the process ids of the workers."""
        return self.pids

    def drop_scenes(self) -> None:
        """Let every worker free the scenes that no slot holds."""
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
        self._unheard.clear()
        for worker in self._workers:
            worker.ask_to_stop()
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
            num_slots=len(range(number, self._num_slots, self.num_workers)),
            settings=self._settings,
            memory_fd=self._memory_fd,
            memory_bytes=len(self._memory),
            pictures=self._pictures,
            limits=self._limits,
            egl_device=self._egl_device,
            missing_s=missing_s,
        )

    def _send(self, slot: int, command: Command, name: str, *rest: int | str | bytes) -> None:
        worker = self._workers[self.worker_of(slot)]
        try:
            worker.send(command, (name, command.place, slot, *rest))
        except ConnectionError:
            self._unheard += self._hear(worker)  # its last words may say that it cannot start
        except TimeoutError:
            self._unheard += self._replace_hung(worker)

    def _hear(self, worker: WorkerProcess) -> list[Reply]:
        """Return all replies that have arrived from a worker."""
        replies: list[Reply] = []
        try:
            while (heard := worker.take_reply()) is not None:
                reply = heard[0]
                if reply.fault == "raised":
                    raised = self._accept(worker, *heard)
                    return [*replies, raised, *self._replace(worker, "lost", reply.error)]
                replies.append(self._accept(worker, *heard))
        except EOFError:
            replies += self._replace(worker, "died", f"process {worker.pid} died")
        except MalformedMessageError as error:
            reason = f"process {worker.pid} sent nonsense: {error}"
            replies += self._replace(worker, "malformed", reason)
        return replies

    def _accept(self, worker: WorkerProcess, wire: WireReply, strip: FilmStrip | None) -> Reply:
        slot = wire.place * self.num_workers + worker.number
        self._ledgers[worker.number].loaded = wire.loaded
        timings = dict(wire.timings)
        if worker.missing_s is not None:
            timings["restart_s"], worker.missing_s = worker.missing_s, None
        return Reply(
            slot=slot,
            observation=self._observation(slot, wire.proprio),
            is_success=wire.is_success,
            num_steps=wire.num_steps,
            error=wire.error,
            fault=wire.fault,
            strip=strip,
            timings=timings,
            counts=wire.counts,
        )

    def _observation(self, slot: int, proprio: NDArray[np.float64] | None) -> Observation | None:
        if proprio is None:
            return None
        return Observation(images=self._pictures.read_look(slot), proprio=proprio)

    def _replace_hung(self, worker: WorkerProcess) -> list[Reply]:
        reason = f"process {worker.pid} gave no answer for {worker.commands.limit_s:.3g} s"
        self._limits.learn_hang()
        return self._replace(worker, "hung", reason)

    def _replace(self, worker: WorkerProcess, fault: Fault, reason: str) -> list[Reply]:
        """Put another process in a worker's place; answer the oldest command with the fault."""
        number = worker.number
        missing_s = (worker.missing_s or 0.0) + worker.commands.silent_s
        slots = [place * self.num_workers + number for place in worker.commands.places]
        worker.kill()
        if fault == "died":
            reason += f" ({worker.ending})"
        self._ledgers[number] = SceneLedger(self._max_scenes)
        self._bereaved |= set(range(number, self._num_slots, self.num_workers)) - set(slots)
        self._workers[number] = self._start(number, missing_s)
        replies = [lost(slot, reason) for slot in slots]
        return [replace(reply, fault=fault) for reply in replies[:1]] + replies[1:]
