"""One learner: the scheduler's thread, which sends requests to the workers and calls the policy."""

from collections import deque

from benchmarks.rollout_model.costs import Costs, Part, durations
from benchmarks.rollout_model.events import Clock
from benchmarks.rollout_model.layout import Layout, Work
from benchmarks.rollout_model.workers import Workers


class Rank:
    """Does the episodes of one rank.

    Attributes:
        workers: Its simulators.
        num_finished: Episodes done.
        seconds: What each part of the work took, added up.
    """

    def __init__(self, costs: Costs, layout: Layout, work: Work, seed: int) -> None:
        """Begin idle at time 0; the seed decides how durations vary."""
        self._costs, self._layout, self._work = costs, layout, work
        self._varied = durations(costs.spread, seed)
        self._clock = Clock()
        self.workers = Workers(
            self._clock, layout,
            slowdown=costs.slowdown, observation_bytes=costs.observation_bytes, then=self._arrive,
        )  # fmt: skip
        self._under_way = [0] * len(self.workers)  # requests whose reply has not been taken
        self._ready: deque[int] = deque()
        self._ready_of = [0] * len(self.workers)
        self._needy: set[int] = set()  # workers that can only go on after a policy step
        self._arrived: deque[int] = deque()
        self._left = [0] * layout.slots_of_rank  # policy steps
        self._begun = self.num_finished = 0
        self._is_idle = True
        self._policy_step_times: list[float] = []
        self.seconds: dict[Part, float] = dict.fromkeys(
            ("simulation", "rendering", "restore", "inference", "transfer"), 0.0
        )

    def run(self) -> None:
        """Do all the work."""
        for slot in range(self._layout.slots_of_rank):
            self._begin_episode(slot)
        while self.num_finished < min(self._begun, self._work.num_episodes):
            self._clock.advance()

    @property
    def now(self) -> float:
        """Return the seconds since the beginning."""
        return self._clock.now

    def steady_rate(self) -> float:
        """Return episodes per second without the first and the last one of every slot."""
        margin = self._layout.slots_of_rank * self._work.num_policy_steps
        if len(self._policy_step_times) < 3 * margin:
            return self.num_finished / self.now
        # Counted in policy steps, which come evenly; the ends of episodes that began together do not.
        seconds = self._policy_step_times[-margin - 1] - self._policy_step_times[margin - 1]
        return (len(self._policy_step_times) - 2 * margin) / self._work.num_policy_steps / seconds

    def _begin_episode(self, slot: int) -> None:
        if self._begun == self._work.num_episodes:
            return
        self._begun += 1
        self._left[slot] = self._work.num_policy_steps
        seconds = self._varied(self._costs.restore_s)
        self.seconds["restore"] += seconds
        self._request(slot, seconds)

    def _execute(self, slot: int) -> None:
        self._left[slot] -= 1
        simulation = self._varied(self._work.chunk * self._costs.step_s)
        # The last action chunk of an episode needs no observation.
        rendering = self._varied(self._costs.render_s) if self._left[slot] else 0.0
        self.seconds["simulation"] += simulation
        self.seconds["rendering"] += rendering
        self._request(slot, simulation + rendering)

    def _request(self, slot: int, seconds: float) -> None:
        worker = self.workers.of(slot)
        self._under_way[worker] += 1
        self._needy.discard(worker)
        self.workers.request(slot, seconds + self._costs.request_s)

    def _arrive(self, slot: int) -> None:
        self._arrived.append(slot)
        if self._is_idle:
            self._schedule()

    def _schedule(self) -> None:
        """Call the policy where it is time to, else take the replies that have arrived, else wait for one."""
        self._is_idle = False
        if self._is_time_to_act():
            self._act()
        elif self._arrived:
            taken = list(self._arrived)
            self._arrived.clear()
            seconds = self._varied(len(taken) * self._costs.reply_s)
            self.seconds["transfer"] += seconds
            self._clock.add(self.workers.first_host, seconds, lambda: self._take(taken))
        else:
            self._is_idle = True

    def _take(self, slots: list[int]) -> None:
        for slot in slots:
            worker = self.workers.of(slot)
            self._under_way[worker] -= 1
            if self._left[slot]:
                self._ready.append(slot)
                self._ready_of[worker] += 1
            else:
                self.num_finished += 1
                self._begin_episode(slot)
            self._note_need(worker)
        self._schedule()

    def _is_time_to_act(self) -> bool:
        return len(self._ready) >= self._layout.batch_size or bool(self._needy)

    def _note_need(self, worker: int) -> None:
        if self._ready_of[worker] and not self._under_way[worker]:
            self._needy.add(worker)
        else:
            self._needy.discard(worker)

    def _act(self) -> None:
        count = min(len(self._ready), self._layout.batch_size)
        slots = [self._ready.popleft() for _ in range(count)]
        for slot in slots:
            worker = self.workers.of(slot)
            self._ready_of[worker] -= 1
            self._note_need(worker)
        seconds = self._varied(self._costs.inference_s)
        self.seconds["inference"] += seconds
        on_cpu = self._layout.infers_on_cpu
        processor = self.workers.first_host if on_cpu else self.workers.elsewhere
        self._clock.add(processor, seconds, lambda: self._send(slots))

    def _send(self, slots: list[int]) -> None:
        for slot in slots:
            self._policy_step_times.append(self.now)
            self._execute(slot)
        self._schedule()
