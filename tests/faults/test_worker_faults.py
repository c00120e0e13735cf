"""Real simulators killed, stopped and corrupted during a rollout: the episodes stay the same."""

import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid

import numpy as np
import pytest

from pi0.records import Sampling
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.rollout.retries import RestartLimitError
from pi0.ript.env.rollout.scheduler import Scheduler
from pi0.ript.env.rollout.stats import RolloutStats
from pi0.ript.faults.inject import PlannedFault, inject
from pi0.ript.faults.processes import (
    MARK_VARIABLE,
    left_segments,
    marked_processes,
    shared_segments,
)
from pi0.ript.types import EpisodeRequest
from tests.env.pools import inline_pool, process_pool
from tests.env.toys import ToyPolicy

pytestmark = [pytest.mark.libero, pytest.mark.slow]

REQUESTS = [
    EpisodeRequest(
        initial_state=make_initial_state("libero_goal", 7, index % 2, fixture_seed=0),
        seed=index,
        max_steps=12,
        rollout=index,
    )
    for index in range(12)
]


@pytest.fixture
def mark(monkeypatch):
    """A mark that every process started from here on inherits."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv(MARK_VARIABLE, mark)
    return mark


def episodes(pool, stats=None, after_each=lambda: None, max_restarts=20):
    waiting = iter(REQUESTS)
    done = {}
    scheduler = Scheduler(
        pool, ToyPolicy(), lambda: next(waiting, None), sampling=Sampling(num_steps=4),
        batch_size=2, max_attempts=1, max_restarts=max_restarts, stats=stats or RolloutStats(),
    )  # fmt: skip
    for episode in scheduler.run():
        assert episode.request.rollout not in done, "yielded twice"
        done[episode.request.rollout] = (
            episode.outcome,
            episode.num_steps,
            b"".join(d.chunk.actions[: d.num_executed].tobytes() for d in episode.policy_steps),
            b"".join(d.observation.images.tobytes() for d in episode.policy_steps),
        )
        after_each()
    return done


def test_faults_at_any_time_change_no_episode_and_leave_nothing_behind(mark):
    with inline_pool() as pool:
        undisturbed = episodes(pool)
    faults = iter(
        PlannedFault(time_s=0.0, kind=kind, seed=seed)
        for seed, kind in enumerate(["kill", "corrupt", "stop"])
    )
    stats = RolloutStats()

    def inject_next():
        workers = [process for process in marked_processes(mark) if process.is_worker]
        if (fault := next(faults, None)) is not None:
            inject(fault, workers)

    # a stopped worker is missed after ten times what a scene took to build, or after this
    with process_pool(num_slots=4, num_workers=2, timeout_s=60.0) as pool:
        pool.wait_until_ready()
        segments = shared_segments(mark)
        disturbed = episodes(pool, stats, inject_next)

    assert disturbed == undisturbed
    assert stats.num_restarts >= 2, stats.restarts
    assert segments
    assert left_segments(segments) == set()
    assert marked_processes(mark) == []


def test_more_restarts_than_allowed_end_the_rollout_with_reason_task_and_seed(mark):
    with process_pool() as pool:
        pool.wait_until_ready()
        os.kill(pool.pids[0], signal.SIGKILL)
        with pytest.raises(
            RestartLimitError,
            match=r"replaced 1 times .* env\.max_restarts allows 0; the last one in "
            r"libero_goal task 7, state 0, seed 0: process \d+ ended \(SIGKILL\)",
        ):
            episodes(pool, max_restarts=0)
    assert marked_processes(mark) == []


OWNER = """
import os, signal, time
from pi0.ript.env.initial_states import make_initial_state
from tests.env.pools import process_pool

pool = process_pool(num_slots=2, num_workers=2)
pool.wait_until_ready()
for slot in range(2):
    pool.restore(slot, make_initial_state("libero_goal", 7, 0, fixture_seed=0))
os.kill(pool.pids[0], signal.SIGSTOP)
time.sleep(0.2)  # the other worker is in the middle of building its scene
print("building", flush=True)
time.sleep(60)
"""


def test_workers_end_with_their_parent_in_the_middle_of_a_scene_build_or_stopped(mark):
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER)], stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout.readline() == "building\n"
        segments = shared_segments(mark)
        assert len([process for process in marked_processes(mark) if process.is_worker]) == 2
        owner.kill()
    deadline = time.monotonic() + 5.0
    # A process that is ending loses its name before it loses its files.
    while marked_processes(mark) or left_segments(segments):
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)

    assert marked_processes(mark) == []
    assert segments
    assert left_segments(segments) == set()
    assert np.all([not name.startswith("/dev/shm/") for name in segments])
