"""Which request a worker has under way, and how long that one may still take."""

from types import SimpleNamespace

import pytest

from pi0.ript.env.pool import deadlines
from pi0.ript.env.pool.deadlines import RequestQueue, TimeLimits
from pi0.ript.env.pool.wire import START, Request, execute_request, restore_request


def test_what_was_never_measured_may_take_all_that_is_allowed():
    limits = TimeLimits(timeout_s=120.0)
    limits.learn("restore", 0.1)

    assert limits.limit_s({"start": 1}) == 120.0
    assert limits.limit_s({"restore": 1, "build": 1}) == 120.0


def test_a_limit_is_ten_times_the_slowest_pace():
    limits = TimeLimits(timeout_s=120.0)
    for seconds in (0.05, 0.2, 0.02):
        limits.learn("step", seconds)

    assert limits.limit_s({"step": 10}) == pytest.approx(10 * 10 * 0.2)


def test_work_of_several_kinds_adds_up():
    limits = TimeLimits(timeout_s=120.0)
    limits.learn("restore", 0.5)
    limits.learn("build", 4.0)

    assert limits.limit_s({"restore": 1, "build": 1}) == pytest.approx(10 * 4.5)


def test_quick_work_has_a_least_limit_and_slow_work_a_most():
    limits = TimeLimits(timeout_s=120.0)
    limits.learn("step", 0.001)
    assert limits.limit_s({"step": 1}) == 10.0

    limits.learn("step", 5.0)
    assert limits.limit_s({"step": 10}) == 120.0


def test_the_least_limit_gives_way_to_the_users_own():
    limits = TimeLimits(timeout_s=1.0)
    limits.learn("step", 0.001)
    assert limits.limit_s({"step": 1}) == 1.0


def test_the_pace_is_learned_from_the_timings_of_replies():
    limits = TimeLimits(timeout_s=1000.0)

    limits.learn_reply({"build_s": 3.0, "restore_s": 0.5, "render_s": 0.5}, num_steps=0)
    # 2 steps with their image in 1 + 1 seconds: one second a step.
    limits.learn_reply({"physics_s": 1.0, "render_s": 1.0}, num_steps=2)
    # An episode that had been solved before executes nothing, so its time is not that of a step.
    limits.learn_reply({"physics_s": 50.0}, num_steps=0)

    assert limits.limit_s({"build": 1}) == 30.0
    assert limits.limit_s({"restore": 1}) == 10.0
    assert limits.limit_s({"step": 3}) == 30.0


def test_hangs_in_a_row_double_the_limit_until_something_succeeds():
    limits = TimeLimits(timeout_s=100.0)
    limits.learn("build", 3.0)

    limits.learn_hang()
    assert limits.limit_s({"build": 1}) == 60.0
    limits.learn_hang()
    assert limits.limit_s({"build": 1}) == 100.0  # never beyond what the user allows

    # On a machine that has become slower the build takes 8 s, which is the pace from here on.
    limits.learn_reply({"build_s": 8.0}, num_steps=0)
    assert limits.limit_s({"build": 1}) == 80.0


def test_a_recorded_action_chunk_may_take_what_its_images_take():
    limits = TimeLimits(1000.0)
    limits.learn_reply({"physics_s": 5.0, "render_s": 5.0}, num_steps=10)
    assert limits.limit_s({"step": 10, "frame": 10}) == 1000.0  # no video was measured yet

    # Nine further images of 2 s; the tenth is the policy's observation.
    limits.learn_reply({"physics_s": 5.0, "render_s": 5.0, "video_s": 18.0}, num_steps=10)
    assert limits.limit_s({"step": 10}) == 100.0
    assert limits.limit_s({"step": 10, "frame": 10}) == 300.0


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [100.0]
    monkeypatch.setattr(deadlines, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def request(worker_slot):
    return Request(worker_slot=worker_slot, work={"step": 1})


def limits():
    """A request may take 10 s, the start of a worker 60 s."""
    limits = TimeLimits(timeout_s=60.0)
    limits.learn("step", 1.0)
    return limits


def test_the_clock_of_a_request_begins_when_it_becomes_the_oldest(clock):
    queue = RequestQueue(limits())
    clock[0] = 150.0  # nothing is under way meanwhile
    queue.add(request(0))
    clock[0] = 153.0
    queue.add(request(1))
    assert (queue.oldest.worker_slot, queue.silent_s, queue.deadline) == (0, 3.0, 160.0)

    queue.next()

    assert (queue.oldest.worker_slot, queue.silent_s, queue.deadline) == (1, 0.0, 163.0)
    assert (queue.worker_slots, len(queue)) == ([1], 1)


def test_a_start_comes_first_but_belongs_to_no_slot(clock):
    queue = RequestQueue(limits(), [START])
    clock[0] = 170.0
    assert (queue.worker_slots, queue.is_overdue) == ([], False)  # 70 s of 60 s, but no slot waits

    queue.add(request(2))

    assert (queue.worker_slots, queue.deadline, queue.is_overdue) == ([2], 160.0, True)
    queue.next()
    assert (queue.deadline, queue.is_overdue) == (180.0, False)


def test_requests_wait_longer_for_a_worker_that_has_not_started_yet(clock):
    queue = RequestQueue(limits(), arrival_s=300.0)
    queue.add(request(0))
    clock[0] = 390.0
    assert (queue.limit_s, queue.is_overdue) == (300.0, False)

    queue.arrive()

    assert (queue.began, queue.limit_s, queue.deadline) == (390.0, 10.0, 400.0)


def test_requests_have_both_slot_numbers_and_their_units_of_work():
    # Slot 5 of two workers is the third slot of the second one.
    restore = restore_request(5, 2, may_build=True)
    assert (restore.worker_slot, restore.slot) == (2, 5)
    assert restore.work == {"restore": 1, "build": 1}
    assert restore_request(5, 2, may_build=False).work == {"restore": 1}
    execute = execute_request(5, 2, 4, observe=False, video=True)
    assert (execute.worker_slot, execute.num_steps) == (2, 4)
    assert execute.work == {"step": 4, "frame": 4}
