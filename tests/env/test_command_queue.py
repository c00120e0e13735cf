"""Which command a worker owes an answer, and how long that one may still take."""

from types import SimpleNamespace

import pytest

from pi0.ript.env import command_queue
from pi0.ript.env.command_queue import CommandQueue
from pi0.ript.env.commands import START, Command, chunk_command, restore_command
from pi0.ript.env.time_limits import TimeLimits


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [100.0]
    monkeypatch.setattr(command_queue, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def command(place):
    return Command(place=place, work={"step": 1})


def limits():
    """A command may take 10 s, the start of a worker 60 s."""
    limits = TimeLimits(timeout_s=60.0)
    limits.learn("step", 1.0)
    return limits


def test_the_clock_of_a_command_begins_when_it_becomes_the_oldest(clock):
    queue = CommandQueue(limits())
    clock[0] = 150.0  # nobody waits meanwhile
    queue.add(command(0))
    clock[0] = 153.0
    queue.add(command(1))
    assert (queue.oldest.place, queue.silent_s, queue.deadline) == (0, 3.0, 160.0)

    queue.next()

    assert (queue.oldest.place, queue.silent_s, queue.deadline) == (1, 0.0, 163.0)
    assert (queue.places, len(queue)) == ([1], 1)


def test_a_start_comes_first_but_belongs_to_no_place(clock):
    queue = CommandQueue(limits(), [START])
    clock[0] = 170.0
    assert (queue.places, queue.is_overdue) == ([], False)  # 70 s of 60 s, but no slot waits

    queue.add(command(2))

    assert (queue.places, queue.deadline, queue.is_overdue) == ([2], 160.0, True)
    queue.next()
    assert (queue.deadline, queue.is_overdue) == (180.0, False)


def test_commands_wait_longer_for_a_worker_that_is_not_there_yet(clock):
    queue = CommandQueue(limits(), arrival_s=300.0)
    queue.add(command(0))
    clock[0] = 390.0
    assert (queue.limit_s, queue.is_overdue) == (300.0, False)

    queue.arrive()

    assert (queue.began, queue.limit_s, queue.deadline) == (390.0, 10.0, 400.0)


def test_commands_know_their_place_and_what_they_are_made_of():
    # Slot 5 of two workers is the third slot of the second one.
    restore = restore_command(5, 2, may_build=True)
    assert (restore.place, restore.position, restore.work) == (2, 5, {"restore": 1, "build": 1})
    assert restore_command(5, 2, may_build=False).work == {"restore": 1}
    chunk = chunk_command(5, 2, 4, look=False, film=True)
    assert (chunk.place, chunk.work, chunk.num_steps) == (2, {"step": 4, "frame": 4}, 4)
