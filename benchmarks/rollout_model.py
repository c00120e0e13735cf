"""How many episodes per minute a layout of hosts, GPUs and slots would do: the rollout as discrete events.

The model follows ``pi0/ript/env/rollout.py``: a worker runs the commands of its slots one after the other;
the scheduler takes whatever has finished and asks the policy once there is a full batch or a worker without
work; a slot whose episode has ended begins the next one at once. Costs are inputs, measured by
``benchmarks/scaling.py``. Ranks of a torchrun job practise independently of each other, so one rank with its
share of hosts and slots is simulated and counted as many times as there are GPUs.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Part = Literal["simulation", "rendering", "restore", "inference", "transfer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What things take, in seconds unless said otherwise.

    Attributes:
        step_s: One control step in a worker.
        render_s: The pictures of one look.
        restore_s: Bringing a slot to a settled initial state, with its look.
        command_s: What a command takes a worker besides.
        inference_s: One policy call of ``batch_size`` rows.
        reply_s: What a reply takes the scheduler's thread.
        look_bytes: Bytes of a look on the network.
        slowdown: Share of its speed that a core loses while all cores of its host are busy.
        spread: Standard deviation of every duration as a share of its mean.
    """

    step_s: float
    render_s: float
    restore_s: float
    command_s: float
    inference_s: float
    reply_s: float
    look_bytes: int
    slowdown: float = 0.0
    spread: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What it runs on. Numbers are of all ranks together.

    Attributes:
        num_hosts: Machines with simulators; the learners are on the first ones.
        num_gpus: Learners, each with a scheduler and a policy of its own.
        num_slots: Episodes under way at once.
        workers_per_host: Simulator processes of a host.
        cores_per_host: Cores of a host.
        batch_size: Rows of a policy call.
        infers_on_cpu: Whether the policy takes one of the first host's cores.
        network_bytes_per_s: Of the link of a learner to the other hosts.
        latency_s: Of a message between hosts.
    """

    num_hosts: int = 1
    num_gpus: int = 1
    num_slots: int
    workers_per_host: int
    cores_per_host: int
    batch_size: int
    infers_on_cpu: bool = False
    network_bytes_per_s: float = 1.25e9
    latency_s: float = 2e-4

    @property
    def num_workers(self) -> int:
        """Return the workers of one rank."""
        return max(1, self.num_hosts * self.workers_per_host // self.num_gpus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Episodes to do.

    Attributes:
        num_episodes: Per rank.
        num_decisions: Of an episode.
        chunk: Control steps of a decision.
    """

    num_episodes: int
    num_decisions: int = 10
    chunk: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What came out.

    Attributes:
        episodes_per_minute: Of all ranks.
        steady_episodes_per_minute: The same without the first and the last episode of every slot, where there
            are that many.
        bottleneck: What the busiest resource does most of the time.
        busy: Share of the time that is spent on each part of the work by the resource that does it.
    """

    episodes_per_minute: float
    steady_episodes_per_minute: float
    bottleneck: Part
    busy: dict[Part, float]


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


class _Rank:
    """One learner with its workers."""

    def __init__(self, costs: Costs, layout: Layout, work: Work, seed: int) -> None:
        self._costs, self._layout, self._work = costs, layout, work
        self._rng = np.random.default_rng(seed)
        self._num_slots = max(1, layout.num_slots // layout.num_gpus)
        num_workers = min(self._num_slots, layout.num_workers)
        num_hosts = max(1, min(layout.num_hosts // layout.num_gpus, num_workers))
        cores = layout.cores_per_host * min(1.0, layout.num_hosts / layout.num_gpus)
        self._hosts = [Processor(cores, costs.slowdown) for _ in range(num_hosts)]
        self._elsewhere = Processor(float("inf"), 0.0)  # GPU and network: nothing shares with them
        self._host_of = [worker % num_hosts for worker in range(num_workers)]
        self._queues: list[deque[tuple[int, float]]] = [deque() for _ in range(num_workers)]
        self._is_working = [False] * num_workers
        self._events: list[tuple[float, int, int, Processor]] = []
        self._event_numbers = itertools.count()
        self._under_way = [0] * num_workers  # commands whose reply has not been taken
        self._ready: deque[int] = deque()
        self._ready_of = [0] * num_workers
        self._needy: set[int] = set()  # workers that can only go on after a decision
        self._arrived: deque[int] = deque()
        self._left = [0] * self._num_slots  # decisions
        self._begun = 0
        self._is_idle = True
        self._link_free = self.now = 0.0
        self.finished: list[float] = []
        self._answered: list[float] = []
        self.seconds: dict[Part, float] = dict.fromkeys(
            ("simulation", "rendering", "restore", "inference", "transfer"), 0.0
        )
        self.link_seconds = 0.0
        self.num_workers = num_workers

    def run(self) -> None:
        for slot in range(self._num_slots):
            self._begin_episode(slot)
        while len(self.finished) < min(self._begun, self._work.num_episodes):
            self.now, _, version, processor = heapq.heappop(self._events)
            if version == processor.version:
                then = processor.finish(self.now)
                self._expect(processor)
                then()

    def _add(self, processor: Processor, seconds: float, then: Callable[[], None]) -> None:
        processor.add(self.now, seconds, then)
        self._expect(processor)

    def _expect(self, processor: Processor) -> None:
        """Note when a processor will have finished its next task; earlier notes are void."""
        time = processor.next_time
        if time < float("inf"):
            heapq.heappush(
                self._events, (time, next(self._event_numbers), processor.version, processor)
            )

    def steady_rate(self) -> float:
        """Return episodes per second without the first and the last one of every slot."""
        margin = self._num_slots * self._work.num_decisions
        if len(self._answered) < 3 * margin:
            return len(self.finished) / self.now
        # Counted in decisions, which come evenly; the ends of episodes that began together do not.
        seconds = self._answered[-margin - 1] - self._answered[margin - 1]
        return (len(self._answered) - 2 * margin) / self._work.num_decisions / seconds

    # Workers.

    def _worker(self, slot: int) -> int:
        return slot % self.num_workers

    def _begin_episode(self, slot: int) -> None:
        if self._begun == self._work.num_episodes:
            return
        self._begun += 1
        self._left[slot] = self._work.num_decisions
        seconds = self._varied(self._costs.restore_s)
        self.seconds["restore"] += seconds
        self._command(slot, seconds)

    def _execute(self, slot: int) -> None:
        self._left[slot] -= 1
        simulation = self._varied(self._work.chunk * self._costs.step_s)
        # After the last decision of an episode nobody looks.
        rendering = self._varied(self._costs.render_s) if self._left[slot] else 0.0
        self.seconds["simulation"] += simulation
        self.seconds["rendering"] += rendering
        self._command(slot, simulation + rendering)

    def _command(self, slot: int, seconds: float) -> None:
        worker = self._worker(slot)
        self._under_way[worker] += 1
        self._needy.discard(worker)
        queued = (slot, seconds + self._costs.command_s)
        if self._host_of[worker] == 0:
            self._enqueue(worker, queued)
        else:
            self._add(
                self._elsewhere, self._layout.latency_s, lambda: self._enqueue(worker, queued)
            )

    def _enqueue(self, worker: int, queued: tuple[int, float]) -> None:
        self._queues[worker].append(queued)
        if not self._is_working[worker]:
            self._work_on(worker)

    def _work_on(self, worker: int) -> None:
        self._is_working[worker] = bool(self._queues[worker])
        if self._is_working[worker]:
            slot, seconds = self._queues[worker].popleft()
            host = self._hosts[self._host_of[worker]]
            self._add(host, seconds, lambda: self._answer(worker, slot))

    def _answer(self, worker: int, slot: int) -> None:
        if self._host_of[worker] == 0:
            self._arrive(slot)
        else:
            sending = self._costs.look_bytes / self._layout.network_bytes_per_s
            self.link_seconds += sending
            self._link_free = max(self.now, self._link_free) + sending
            delay = self._link_free - self.now + self._layout.latency_s
            self._add(self._elsewhere, delay, lambda: self._arrive(slot))
        self._work_on(worker)

    # The scheduler's thread.

    def _arrive(self, slot: int) -> None:
        self._arrived.append(slot)
        if self._is_idle:
            self._schedule()

    def _schedule(self) -> None:
        """Decide where it is time to, else take the replies that have arrived, else wait for one."""
        self._is_idle = False
        if self._is_time_to_decide():
            self._decide()
        elif self._arrived:
            taken = list(self._arrived)
            self._arrived.clear()
            seconds = self._varied(len(taken) * self._costs.reply_s)
            self.seconds["transfer"] += seconds
            self._add(self._hosts[0], seconds, lambda: self._take(taken))
        else:
            self._is_idle = True

    def _take(self, slots: list[int]) -> None:
        for slot in slots:
            worker = self._worker(slot)
            self._under_way[worker] -= 1
            if self._left[slot]:
                self._ready.append(slot)
                self._ready_of[worker] += 1
            else:
                self.finished.append(self.now)
                self._begin_episode(slot)
            self._note_need(worker)
        self._schedule()

    def _is_time_to_decide(self) -> bool:
        return len(self._ready) >= self._layout.batch_size or bool(self._needy)

    def _note_need(self, worker: int) -> None:
        if self._ready_of[worker] and not self._under_way[worker]:
            self._needy.add(worker)
        else:
            self._needy.discard(worker)

    def _decide(self) -> None:
        count = min(len(self._ready), self._layout.batch_size)
        slots = [self._ready.popleft() for _ in range(count)]
        for slot in slots:
            self._ready_of[self._worker(slot)] -= 1
            self._note_need(self._worker(slot))
        seconds = self._varied(self._costs.inference_s)
        self.seconds["inference"] += seconds
        place = self._hosts[0] if self._layout.infers_on_cpu else self._elsewhere
        self._add(place, seconds, lambda: self._send(slots))

    def _send(self, slots: list[int]) -> None:
        for slot in slots:
            self._answered.append(self.now)
            self._execute(slot)
        self._schedule()

    def _varied(self, mean: float) -> float:
        if not self._costs.spread or not mean:
            return mean
        return float(mean * self._rng.gamma(self._costs.spread**-2, self._costs.spread**2))


def predict(costs: Costs, layout: Layout, work: Work, seed: int = 0) -> Prediction:
    """Return the throughput of a layout and what bounds it; the same inputs give the same figures."""
    rank = _Rank(costs, layout, work, seed)
    rank.run()
    per_second = len(rank.finished) / rank.now
    busy = _busy(rank)
    return Prediction(
        episodes_per_minute=60.0 * layout.num_gpus * per_second,
        steady_episodes_per_minute=60.0 * layout.num_gpus * rank.steady_rate(),
        bottleneck=_bottleneck(busy),
        busy=busy,
    )


def _busy(rank: _Rank) -> dict[Part, float]:
    workers = rank.num_workers * rank.now
    return {
        "simulation": rank.seconds["simulation"] / workers,
        "rendering": rank.seconds["rendering"] / workers,
        "restore": rank.seconds["restore"] / workers,
        "inference": rank.seconds["inference"] / rank.now,
        "transfer": max(rank.seconds["transfer"], rank.link_seconds) / rank.now,
    }


def _bottleneck(busy: dict[Part, float]) -> Part:
    """Return the largest part of the work of the busiest resource."""
    of_workers: list[Part] = ["simulation", "rendering", "restore"]
    of_scheduler: list[Part] = ["inference", "transfer"]
    resources = [of_workers, of_scheduler]
    fullest = max(resources, key=lambda parts: sum(busy[part] for part in parts))
    return max(fullest, key=lambda part: busy[part])
