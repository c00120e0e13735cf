"""What every pool of other processes does about its workers, shown with workers that are no processes."""

import numpy as np

from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.pool.deadlines import RequestQueue, TimeLimits
from pi0.ript.env.pool.wire import blame_oldest
from pi0.ript.env.pool.worker_pool import WorkerPool
from pi0.ript.interfaces import Reply

STATE = make_initial_state("libero_goal", 7, 0, fixture_seed=0)
STILL = np.zeros((2, 7), np.float32)
SCENES = (("libero_goal", 7),)


class ToyWorker:
    """Records the messages that it is sent."""

    pid = 0

    def __init__(self, number, missing_s):
        self.number, self.missing_s = number, missing_s
        self.requests = RequestQueue(TimeLimits(1.0))
        self.messages, self.released = [], []

    def send(self, request, name, *arguments):
        self.requests.add(request)
        self.messages.append((name, request.worker_slot, *arguments))

    def release(self, worker_slot):
        self.released.append(worker_slot)

    def receive(self):
        request = self.requests.oldest
        self.requests.next()
        reply = Reply(
            slot=request.slot, observation=None, is_success=False, num_steps=request.num_steps
        )
        return reply, SCENES


class ToyPool(WorkerPool):
    """Every worker replies to its oldest request, but the one of slot ``failing`` ends first."""

    _kind = "toy"

    def __init__(self):
        super().__init__(num_slots=5, num_workers=2, max_scenes=1)
        self._workers = [self._start(number) for number in range(2)]
        self.failing = None

    def worker(self, slot):
        return self._worker(slot)

    def drop_scenes(self):
        self._has_dropped = True

    def _start(self, number, missing_s=None):
        return ToyWorker(number, missing_s)

    def _receive(self):
        if self.failing is not None:
            worker, self.failing = self._worker(self.failing), None
            return blame_oldest(self._start_replacement(worker, missing_s=3.0), "died", "ended")
        busy = [worker for worker in self._workers if worker.requests]
        return [self._accept(worker, *worker.receive()) for worker in busy]


def restored():
    """A pool whose slots have all been restored."""
    pool = ToyPool()
    for slot in range(5):
        pool.restore(slot, STATE)
    while pool._busy:
        pool.wait()
    return pool


def faults(replies):
    return {reply.slot: reply.fault for reply in replies}


def test_requests_reach_the_worker_of_their_slot_under_its_worker_slot():
    pool = restored()
    pool.execute(3, STILL, observe=False, video=True)  # slots 1 and 3 belong to the second worker

    restore, execute = pool.worker(3).messages[1:]
    assert restore == ("restore", 1, "libero_goal", 7, 0, 0, STATE.state.tobytes())
    assert execute == ("execute", 1, STILL.tobytes(), False, True)
    [reply] = pool.wait()
    assert (reply.slot, reply.num_steps) == (3, 2)
    pool.release(3)
    assert pool.worker(3).released == [1]


def test_a_lost_worker_is_blamed_once_and_its_idle_slots_are_lost_when_they_execute():
    pool = restored()
    pool.execute(2, STILL)
    pool.execute(0, STILL)
    pool.failing = 0
    assert faults(pool.wait()) == {2: "died", 0: "lost"}
    assert pool.loaded_scenes(0) == frozenset()

    pool.execute(4, STILL)  # it had nothing under way, but its simulation has ended as well
    [reply] = pool.wait()
    assert (reply.fault, reply.error) == ("lost", "the simulation ended with its toy")

    pool.restore(4, STATE)
    pool.execute(1, STILL)  # a slot of another worker
    assert faults(pool.wait()) == {4: "", 1: ""}


def test_the_first_reply_of_a_replacement_has_the_seconds_it_was_missing():
    pool = restored()
    pool.execute(0, STILL)
    pool.failing = 0
    pool.wait()

    pool.restore(0, STATE)
    [first] = pool.wait()
    pool.execute(0, STILL)
    [second] = pool.wait()

    assert first.timings == {"restart_s": 3.0}
    assert second.timings == {}


def test_a_restore_may_build_what_is_not_loaded_or_was_dropped():
    def work_of_restore(pool):
        pool.restore(0, STATE)
        work = pool.worker(0).requests.oldest.work
        pool.wait()
        return set(work)

    assert work_of_restore(ToyPool()) == {"restore", "build"}
    pool = restored()
    assert work_of_restore(pool) == {"restore"}
    pool.drop_scenes()
    assert work_of_restore(pool) == {"restore"}  # the other slots still hold it
    for slot in range(5):
        pool.release(slot)
    assert work_of_restore(pool) == {"restore", "build"}


def test_a_closed_pool_forgets_replies_that_were_not_returned():
    pool = restored()
    pool.execute(0, STILL)
    pool.failing = 0
    pool.wait()
    pool.execute(2, STILL)

    pool.close()

    assert (pool._pending_replies, pool._busy) == ([], set())
