"""How long a worker may take for its oldest request, learned from what requests have taken.

The limit of a request is ``FACTOR`` times what it would take at the slowest pace measured so far, at
least ``LEAST_S`` and never more than ``env.timeout_s``, which also holds until a kind of work has been
measured. Where a machine has become slower than that, the limit grows: every hang in a row doubles it,
and what then succeeds is the slowest pace from there on.
"""

import time
from collections import deque
from collections.abc import Iterable, Mapping

from pi0.ript.env.pool.wire import START, Request, Work

FACTOR = 10.0  # a machine that is shared slows down by less
LEAST_S = 10.0


class TimeLimits:
    """The slowest pace of every kind of work, in seconds a unit.

    Example: an action chunk of 20 steps, the slowest of which took 0.1 s, may take 20 s.
    """

    def __init__(self, timeout_s: float) -> None:
        """Take the upper bound, in seconds."""
        self._timeout_s = timeout_s
        self._slowest_s: dict[Work, float] = {}
        self._hangs_in_a_row = 0

    def learn(self, work: Work, seconds: float) -> None:
        """Note what a unit of work took."""
        self._slowest_s[work] = max(seconds, self._slowest_s.get(work, 0.0))

    def learn_hang(self) -> None:
        """Note that a worker was replaced because a request took too long."""
        self._hangs_in_a_row += 1

    def learn_reply(self, timings: Mapping[str, float], num_steps: int) -> None:
        """Note what a request took.

        Args:
            timings: Worker seconds by stage, see ``Reply.timings``.
            num_steps: Control steps executed.
        """
        self._hangs_in_a_row = 0
        if "build_s" in timings:
            self.learn("build", timings["build_s"])
        drawing = timings.get("render_s", 0.0)
        if "restore_s" in timings:
            self.learn("restore", timings["restore_s"] + drawing)
        elif "physics_s" in timings and num_steps:
            self.learn("step", (timings["physics_s"] + drawing) / num_steps)
        if "video_s" in timings and num_steps:
            # The last step's image is most often that of the policy's observation.
            self.learn("frame", timings["video_s"] / max(1, num_steps - 1))

    def limit_s(self, work: Mapping[Work, int]) -> float:
        """Return the seconds that a request of so many units of each kind of work may take."""
        if not all(kind in self._slowest_s for kind in work):
            return self._timeout_s
        expected = sum(units * self._slowest_s[kind] for kind, units in work.items())
        slowdown = 2.0**self._hangs_in_a_row
        return min(self._timeout_s, slowdown * max(LEAST_S, FACTOR * expected))


class RequestQueue:
    """The requests that a worker has under way, in order. The clock of the oldest one runs.

    Example: ``queue.add(request)``; once the reply to ``queue.oldest`` is there, ``queue.next()``.
    """

    def __init__(
        self,
        limits: TimeLimits,
        requests: Iterable[Request] = (),
        *,
        arrival_s: float | None = None,
    ) -> None:
        """Start the clock.

        Args:
            limits: How long a request may take once it is the oldest.
            requests: What is under way from the beginning.
            arrival_s: Seconds that requests may wait for a worker that has not been started yet;
                None for one that has.
        """
        self._limits = limits
        self._requests = deque(requests)
        self._arrival_s = arrival_s
        self._began = time.monotonic()

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def oldest(self) -> Request:
        """Return the request whose reply comes next; there must be one."""
        return self._requests[0]

    @property
    def worker_slots(self) -> list[int]:
        """Return the worker's slots that have a request under way, in order."""
        return [request.worker_slot for request in self._requests if request is not START]

    @property
    def began(self) -> float:
        """Return the monotonic time at which the clock was started last."""
        return self._began

    @property
    def silent_s(self) -> float:
        """Return for how long the clock has been running."""
        return time.monotonic() - self._began

    @property
    def limit_s(self) -> float:
        """Return the seconds that the oldest request may take, or wait for its worker."""
        if self._arrival_s is not None:
            return self._arrival_s
        return self._limits.limit_s(self.oldest.work)

    @property
    def deadline(self) -> float:
        """Return the monotonic time from which on the oldest request takes too long."""
        return self._began + self.limit_s

    @property
    def is_overdue(self) -> bool:
        """Return whether a slot waits and the oldest request takes too long."""
        return bool(self.worker_slots) and time.monotonic() >= self.deadline

    def add(self, request: Request) -> None:
        """Note a request that the worker begins after all that are under way."""
        if not self._requests:
            self._began = time.monotonic()
        self._requests.append(request)

    def next(self) -> None:
        """Note that the reply to the oldest request has been received."""
        self._requests.popleft()
        self._began = time.monotonic()

    def arrive(self) -> None:
        """Note that the worker has started; the oldest request has its whole time from here on."""
        self._arrival_s = None
        self._began = time.monotonic()
