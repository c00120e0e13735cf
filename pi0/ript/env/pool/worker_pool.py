"""Simulator slots in other processes, which are replaced when they fail; transports are subclasses."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pi0.ript.env.checks import check_actions
from pi0.ript.env.initial_states import check_initial_state
from pi0.ript.env.pool.deadlines import RequestQueue
from pi0.ript.env.pool.ledger import SceneKey, SceneLedger, SlotLedger
from pi0.ript.env.pool.wire import Request, execute_request, lost, require_exact, restore_request
from pi0.ript.interfaces import Reply
from pi0.ript.types import InitialState


class Worker(Protocol):
    """One of those processes, as the pool sees it.

    Attributes:
        number: Which of the pool's workers this is.
        missing_s: For a replacement that has sent no reply yet, the seconds for which its slots had
            no worker; else None.
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
        """Send a slot's request."""
        ...

    def release(self, worker_slot: int) -> None:
        """Release the scene of one of the worker's slots; there is no reply."""
        ...


W = TypeVar("W", bound=Worker)


class WorkerPool(SlotLedger, ABC, Generic[W]):
    """Slots spread round-robin over workers.

    When a worker fails, the reply to the oldest request that it had under way has the fault, and that
    to every other one is ``lost``; so is the next ``execute`` of a slot whose simulation was lost
    between two requests.

    A subclass defines how a worker starts (``_start``), how replies are received (``_receive``), and
    what may go wrong on the way.
    """

    _kind: ClassVar[str]  # how messages name a worker

    def __init__(self, num_slots: int, num_workers: int, max_scenes: int) -> None:
        super().__init__(num_slots, num_workers, max_scenes)
        self._pending_replies: list[Reply] = []  # what the next ``wait`` returns
        self._lost_slots: set[int] = set()  # slots whose simulation ended with their worker
        self._has_dropped = False
        self._workers: list[W] = []

    @property
    def pids(self) -> tuple[int, ...]:
        """Return the process ids of the workers on their hosts; 0 for one that has not started yet."""
        return tuple(worker.pid for worker in self._workers)

    def restore(self, slot: int, initial_state: InitialState) -> None:
        """Start bringing the slot to the settled initial state."""
        s = initial_state
        check_initial_state(s)
        may_build = self._may_build(slot, (s.suite, s.task_id))
        self._begin_restore(slot, s)
        self._lost_slots.discard(slot)
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
        """Start up to h control steps, float32 [h, 7]; ``observe`` and ``video`` say what is drawn."""
        check_actions(actions)
        if video:
            self._check_video(len(actions))
        self._begin(slot)
        if slot in self._lost_slots:
            self._pending_replies.append(lost(slot, f"the simulation ended with its {self._kind}"))
            return
        packed = np.ascontiguousarray(actions, dtype=np.float32).tobytes()
        request = execute_request(
            slot, self.num_workers, len(actions), observe=observe, video=video
        )
        self._send(request, "execute", packed, observe, video)

    def wait(self) -> list[Reply]:
        """Block until a request has finished, or a worker with room has started; return the replies.

        Raises:
            RenderingError: A worker cannot render on its host.
            ValueError: A worker's host has other versions than this one, or draws with another driver
                than the first.
            WorkerStartError: Workers end while they start.
            PoolClosedError: The pool was closed; nothing is under way any more.
        """
        self._require_open()
        assert self._busy, "wait needs a request under way"
        replies, self._pending_replies = self._pending_replies, []
        replies = replies or self._receive()
        self._busy -= {reply.slot for reply in replies}
        return replies

    def release(self, slot: int) -> None:
        """Release the slot's scene after its episode, so that it may make room for another."""
        self._ledger(slot).release(slot)
        self._worker(slot).release(slot // self.num_workers)

    def close(self) -> None:
        """End every worker; safe to call twice."""
        super().close()
        self._pending_replies.clear()

    @abstractmethod
    def _start(self, number: int, missing_s: float | None = None) -> W:
        """Return a new worker.

        Args:
            number: Which of the pool's workers it is.
            missing_s: For a replacement, the seconds for which its predecessor did no work.
        """

    @abstractmethod
    def _receive(self) -> list[Reply]:
        """Block until workers have replied or failed; return the replies that follow."""

    def _check_video(self, num_steps: int) -> None:
        """Raise ``ValueError`` if a video of so many control steps cannot travel."""

    def _send(self, request: Request, name: str, *arguments: int | str | bytes) -> None:
        self._worker(request.slot).send(request, name, *arguments)

    def _worker(self, slot: int) -> W:
        return self._workers[self.worker_of(slot)]

    def _slots_of(self, number: int) -> range:
        return range(number, self._num_slots, self.num_workers)

    def _may_build(self, slot: int, scene: SceneKey) -> bool:
        ledger = self._ledger(slot)
        # A reply sent before scenes were dropped still lists them.
        return scene not in ledger.loaded or (self._has_dropped and scene not in ledger.held)

    def _accept(self, worker: W, reply: Reply, loaded: tuple[SceneKey, ...]) -> Reply:
        """Note a worker's loaded scenes; add to a replacement's first reply how long it took to come."""
        require_exact(reply)
        self._ledgers[worker.number].loaded = loaded
        restart_s, worker.missing_s = worker.missing_s, None
        if restart_s is None:
            return reply
        return replace(reply, timings={**reply.timings, "restart_s": restart_s})

    def _start_replacement(self, worker: W, missing_s: float) -> list[int]:
        """Start another worker instead of one that has been ended; return the slots that wait."""
        number = worker.number
        slots = self._slots_of(number)
        waiting = [slots[worker_slot] for worker_slot in worker.requests.worker_slots]
        self._ledgers[number] = SceneLedger(self._max_scenes)
        self._lost_slots |= set(slots) - set(waiting)
        self._workers[number] = self._start(number, missing_s)
        return waiting
