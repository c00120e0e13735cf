"""The simulator processes of a rank and the way of a request to them and of its reply back."""

from collections import deque
from collections.abc import Callable

from benchmarks.rollout_model.events import Clock, Processor
from benchmarks.rollout_model.layout import Layout


class Workers:
    """Run the requests of their slots one after the other, and share the cores of their hosts.

    Attributes:
        first_host: Where the scheduler and the workers next to it are.
        elsewhere: GPU and network: nothing shares with them.
        link_seconds: How long the link to the other hosts was busy.
    """

    def __init__(
        self,
        clock: Clock,
        layout: Layout,
        *,
        slowdown: float,
        observation_bytes: int,
        then: Callable[[int], None],
    ) -> None:
        """Begin idle.

        Args:
            clock: Shared with the scheduler.
            layout: How many, where, and how far away.
            slowdown: As in ``Costs``.
            observation_bytes: As in ``Costs``.
            then: Called with the slot of every reply when it has arrived.
        """
        self._clock, self._then = clock, then
        self._latency_s = layout.latency_s
        self._sending_s = observation_bytes / layout.network_bytes_per_s
        self._hosts = [
            Processor(layout.cores_of_rank, slowdown) for _ in range(layout.hosts_of_rank)
        ]
        self.first_host = self._hosts[0]
        self.elsewhere = Processor(float("inf"), 0.0)
        self._queues: list[deque[tuple[int, float]]] = [
            deque() for _ in range(layout.workers_of_rank)
        ]
        self._is_working = [False] * layout.workers_of_rank
        self._link_free = self.link_seconds = 0.0

    def __len__(self) -> int:
        return len(self._queues)

    def of(self, slot: int) -> int:
        """Return which worker runs a slot."""
        return slot % len(self._queues)

    def request(self, slot: int, seconds: float) -> None:
        """Send a request that takes its worker so long."""
        worker = self.of(slot)
        if self._is_near(worker):
            self._enqueue(worker, (slot, seconds))
        else:
            self._clock.add(
                self.elsewhere, self._latency_s, lambda: self._enqueue(worker, (slot, seconds))
            )

    def _host(self, worker: int) -> Processor:
        return self._hosts[worker % len(self._hosts)]

    def _is_near(self, worker: int) -> bool:
        """Return whether a worker is on the host of the scheduler."""
        return self._host(worker) is self.first_host

    def _enqueue(self, worker: int, queued: tuple[int, float]) -> None:
        self._queues[worker].append(queued)
        if not self._is_working[worker]:
            self._work_on(worker)

    def _work_on(self, worker: int) -> None:
        self._is_working[worker] = bool(self._queues[worker])
        if self._is_working[worker]:
            slot, seconds = self._queues[worker].popleft()
            self._clock.add(self._host(worker), seconds, lambda: self._reply(worker, slot))

    def _reply(self, worker: int, slot: int) -> None:
        if self._is_near(worker):
            self._then(slot)
        else:
            self._clock.add(self.elsewhere, self._link_delay(), lambda: self._then(slot))
        self._work_on(worker)

    def _link_delay(self) -> float:
        """Return how long a reply takes that waits for those before it on the link."""
        self.link_seconds += self._sending_s
        self._link_free = max(self._clock.now, self._link_free) + self._sending_s
        return self._link_free - self._clock.now + self._latency_s
