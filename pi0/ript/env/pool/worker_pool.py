"""Simulator slots of other processes, which are replaced when they fail, whatever carries the messages."""

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pi0.ript.env.checks import check_actions
from pi0.ript.env.pool.deadlines import RequestQueue
from pi0.ript.env.pool.ledger import SceneKey, SceneLedger, SlotLedger
from pi0.ript.env.pool.wire import Answer, Request, as_reply, execute_request, lost, restore_request
from pi0.ript.env.suites import check_initial_state
from pi0.ript.interfaces import Reply
from pi0.ript.types import InitialState


class Worker(Protocol):
    """One of those processes, as the program sees it.

    Attributes:
        number: Which of the pool's workers this is.
        missing_s: For a replacement that has not answered yet, the seconds that the slots had none.
        requests: What it has under way.
    """

    number: int
    missing_s: float | None
    requests: RequestQueue

    @property
    def pid(self) -> int:
        """Return the process id."""
        ...

    def send(self, request: Request, name: str, *arguments: int | str | bytes) -> None:
        """Send a slot's command."""
        ...

    def release(self, place: int) -> None:
        """Let the worker's own slot number ``place`` let go of its scene; there is no reply."""
        ...


W = TypeVar("W", bound=Worker)


class WorkerPool(SlotLedger, ABC, Generic[W]):
    """Slots spread round-robin over workers.

    When a worker fails, the oldest command that it had under way is answered with the fault, every
    other one with ``lost``; so is the next ``execute`` of a slot whose simulation went down between
    two commands.

    A pool says how a worker starts (``_start``), how answers come (``_hear_any``), and what may go
    wrong on the way.
    """

    _kind: ClassVar[str]  # what a worker is called in messages

    def __init__(self, num_slots: int, num_workers: int, max_scenes: int) -> None:
        super().__init__(num_slots, num_workers, max_scenes)
        self._unheard: list[Reply] = []  # replies that the next ``wait`` returns
        self._bereaved: set[int] = set()  # slots whose simulation went down with a worker
        self._has_dropped = False
        self._workers: list[W] = []

    @property
    def pids(self) -> tuple[int, ...]:
        """Return the process ids of the workers on their hosts; 0 for one that is not there yet."""
        return tuple(worker.pid for worker in self._workers)

    def restore(self, slot: int, initial_state: InitialState) -> None:
        """Start bringing the slot to the settled initial state."""
        s = initial_state
        check_initial_state(s)
        may_build = self._may_build(slot, (s.suite, s.task_id))
        self._begin_restore(slot, s)
        self._bereaved.discard(slot)
        state = np.ascontiguousarray(s.state, dtype=np.float64).tobytes()
        request = restore_request(slot, self.num_workers, may_build=may_build)
        self._send(request, "restore", s.suite, s.task_id, s.index, s.fixture_seed, state)

    def execute(
        self,
        slot: int,
        actions: NDArray[np.float32],
        *,
        observe: bool = True,
        video: bool = False,
    ) -> None:
        """Start up to h control steps, float32 [h, 7]; no picture if nobody looks, all for a film."""
        check_actions(actions)
        if video:
            self._check_video(len(actions))
        self._begin(slot)
        if slot in self._bereaved:
            self._unheard.append(lost(slot, f"the simulation went down with its {self._kind}"))
            return
        chunk = np.ascontiguousarray(actions, dtype=np.float32).tobytes()
        request = execute_request(
            slot, self.num_workers, len(actions), observe=observe, video=video
        )
        self._send(request, "execute", chunk, observe, video)

    def wait(self) -> list[Reply]:
        """Block until a command has finished, or a worker has come that has room; return the replies.

        Raises:
            RenderingError: A worker cannot render where it is.
            ValueError: A worker's host has other versions than this one.
            WorkerStartError: Workers end while they start.
            PoolClosedError: The pool was closed; nothing is under way any more.
        """
        self._require_open()
        assert self._busy, "wait needs a command under way"
        replies, self._unheard = self._unheard, []
        replies = replies or self._listen()
        self._busy -= {reply.slot for reply in replies}
        return replies

    def release(self, slot: int) -> None:
        """Say that the slot's episode is over, so that its scene may make room for another."""
        self._ledger(slot).release(slot)
        self._worker(slot).release(slot // self.num_workers)

    def close(self) -> None:
        """End every worker; safe to call twice."""
        super().close()
        self._unheard.clear()

    @abstractmethod
    def _start(self, number: int, missing_s: float | None = None) -> W:
        """Return a new worker.

        Args:
            number: Its place in the pool.
            missing_s: For a replacement, the seconds for which its predecessor did no work.
        """

    @abstractmethod
    def _listen(self) -> list[Reply]:
        """Block until workers have answered or failed; return the replies that follow."""

    def _check_video(self, num_steps: int) -> None:
        """Raise ``ValueError`` if a film of so many control steps cannot travel."""

    def _send(self, request: Request, name: str, *arguments: int | str | bytes) -> None:
        self._worker(request.position).send(request, name, *arguments)

    def _worker(self, slot: int) -> W:
        return self._workers[self.worker_of(slot)]

    def _slots_of(self, number: int) -> range:
        return range(number, self._num_slots, self.num_workers)

    def _may_build(self, slot: int, scene: SceneKey) -> bool:
        ledger = self._ledger(slot)
        # A reply sent before scenes were dropped still lists them.
        return scene not in ledger.loaded or (self._has_dropped and scene not in ledger.held)

    def _accept(self, worker: W, answer: Answer) -> Reply:
        """Return the reply to a worker's oldest command and note what it says of the worker."""
        self._ledgers[worker.number].loaded = answer.wire.loaded
        restart_s, worker.missing_s = worker.missing_s, None
        return as_reply(answer, restart_s)

    def _start_anew(self, worker: W, missing_s: float) -> list[int]:
        """Put another worker in the place of one that has been ended; return the slots that wait."""
        number = worker.number
        waiting = [self._slots_of(number)[place] for place in worker.requests.places]
        self._ledgers[number] = SceneLedger(self._max_scenes)
        self._bereaved |= set(self._slots_of(number)) - set(waiting)
        self._workers[number] = self._start(number, missing_s)
        return waiting
