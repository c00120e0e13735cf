"""Discrete events: processors that share their time among tasks, and the clock that all of them follow."""

import heapq
import itertools
from collections.abc import Callable


class Processor:
    """Cores that share their time equally among tasks; every task takes at most one core."""

    def __init__(self, cores: float, slowdown: float) -> None:
        """Begin idle at time 0."""
        self._cores = cores
        self._slowdown = slowdown
        self._tasks: list[tuple[float, int, Callable[[], None]]] = []
        self.version = 0  # of its tasks
        self._done = 0.0  # seconds of work that every task has had since the beginning
        self._now = 0.0
        self._numbers = itertools.count()

    def add(self, now: float, seconds: float, then: Callable[[], None]) -> None:
        """Begin a task that takes ``seconds`` of a core of its own."""
        self._advance(now)
        self.version += 1
        heapq.heappush(self._tasks, (self._done + seconds, next(self._numbers), then))

    def finish(self, now: float) -> Callable[[], None]:
        """Return what follows the task that is finished next."""
        self._advance(now)
        self.version += 1
        return heapq.heappop(self._tasks)[2]

    @property
    def next_time(self) -> float:
        """Return when the next task is finished, if nothing is added."""
        if not self._tasks:
            return float("inf")
        return self._now + max(0.0, self._tasks[0][0] - self._done) / self._speed

    def _advance(self, now: float) -> None:
        self._done += (now - self._now) * self._speed
        self._now = now

    @property
    def _speed(self) -> float:
        busy = len(self._tasks)
        if busy <= 1 or self._cores <= 1:
            return min(1.0, self._cores / max(1, busy))
        crowd = (min(busy, self._cores) - 1) / (self._cores - 1)
        return min(1.0, self._cores / busy) * (1.0 - self._slowdown * crowd)


class Clock:
    """Goes from one finished task to the next.

    Attributes:
        now: Seconds since the beginning.
    """

    def __init__(self) -> None:
        """Begin at time 0 with nothing to come."""
        self.now = 0.0
        self._events: list[tuple[float, int, int, Processor]] = []
        self._numbers = itertools.count()

    def add(self, processor: Processor, seconds: float, then: Callable[[], None]) -> None:
        """Begin a task on a processor; ``then`` is called when it is finished."""
        processor.add(self.now, seconds, then)
        self._expect(processor)

    def advance(self) -> None:
        """Go to the next event and do what follows it."""
        self.now, _, version, processor = heapq.heappop(self._events)
        if version == processor.version:
            then = processor.finish(self.now)
            self._expect(processor)
            then()

    def _expect(self, processor: Processor) -> None:
        """Note when a processor will have finished its next task; earlier notes are void."""
        time = processor.next_time
        if time < float("inf"):
            heapq.heappush(self._events, (time, next(self._numbers), processor.version, processor))
