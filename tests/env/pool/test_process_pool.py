"""Simulator processes: which slots they run, what they load, and what happens when one is lost."""

import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest

from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.pool.ledger import PoolClosedError
from pi0.ript.env.pool.wire import execute_request
from tests.env.pool.replies import STATE, wait_for
from tests.env.pools import inline_pool, process_pool
from tests.env.toys import SPEC

pytestmark = pytest.mark.libero


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def pool():
    with process_pool(num_slots=3, num_workers=2) as pool:
        yield pool


def test_slots_are_spread_over_processes_that_run_at_once(pool):
    for slot in range(3):
        pool.restore(slot, STATE)
    replies = wait_for(pool, 3)

    assert len(set(pool.pids)) == 2
    assert all(is_running(pid) for pid in pool.pids)
    assert [replies[slot].error for slot in range(3)] == ["", "", ""]
    assert all(("libero_goal", 7) in pool.loaded_scenes(slot) for slot in range(3))
    for reply in replies.values():
        np.testing.assert_array_equal(reply.observation.images, replies[0].observation.images)
    assert {"build_s", "restore_s", "render_s"} <= set(replies[0].timings)


def test_execute_reports_steps_and_observations(pool):
    actions = np.full((3, 7), 0.2, np.float32)

    for slot in (0, 1):
        pool.execute(slot, actions)
    first, second = wait_for(pool, 2).values()

    assert (first.num_steps, first.is_success) == (3, False)
    np.testing.assert_array_equal(first.observation.proprio, second.observation.proprio)
    assert first.observation.images.shape == (1, 32, 32, 3)


def test_simulator_processes_never_load_torch(pool):
    for modules in pool.worker_modules():
        assert {"mujoco", "libero", "numpy"} <= modules
        assert not {"torch", "transformers", "draccus"} & modules


def test_workers_say_what_they_draw_with(pool):
    pool.wait_until_ready()
    assert list(pool.driver) == ["GL vendor", "GL renderer", "GL version"]
    with inline_pool() as other:
        assert other.driver == pool.driver  # the same machine
    assert "unknown" not in pool.driver.values()


def test_wrong_requests_are_refused_before_they_are_sent(pool):
    with pytest.raises(ValueError, match=r"shape \[h, 7\], got \[3, 6\]"):
        pool.execute(0, np.zeros((3, 6), np.float32))
    with pytest.raises(ValueError, match="finite"):
        pool.execute(0, np.full((1, 7), np.inf, np.float32))
    with pytest.raises(ValueError, match=r"slot must be in 0\.\.2, got 3"):
        pool.restore(3, STATE)
    pool.restore(0, STATE)
    with pytest.raises(ValueError, match="slot 0 already has a request under way"):
        pool.restore(0, STATE)
    wait_for(pool, 1)


def test_a_killed_worker_is_replaced_and_its_slots_report_the_loss(pool):
    killed, neighbor = pool.pids
    os.kill(killed, signal.SIGKILL)
    pool.restore(0, STATE)  # slots 0 and 2 belong to the first worker, slot 1 to the second
    pool.execute(1, np.zeros((1, 7), np.float32))
    replies = wait_for(pool, 2)

    assert replies[0].error == f"process {killed} ended (SIGKILL)"
    assert replies[0].fault == "died"
    assert replies[1].error == ""
    assert pool.pids[1] == neighbor
    assert pool.pids[0] != killed
    pool.execute(2, np.zeros((1, 7), np.float32))  # its simulation ended with the worker
    assert wait_for(pool, 1)[2].fault == "lost"


def test_a_hung_worker_is_replaced():
    with process_pool(timeout_s=1.0) as pool:
        [pid] = pool.pids
        os.kill(pid, signal.SIGSTOP)
        pool.restore(0, STATE)
        started = time.monotonic()
        [reply] = pool.wait()

        assert reply.error == f"process {pid} sent no reply for 1 s"
        assert reply.fault == "hung"
        assert time.monotonic() - started < 10
        assert not is_running(pid)


def test_diverged_physics_end_one_simulation_and_no_worker(pool):
    state = STATE.state.copy()
    state[-1] = 1e300  # a velocity no physics survives
    pids = pool.pids
    pool.restore(0, STATE)  # slots 0 and 2 share a worker and its scene
    wait_for(pool, 1)
    before = pool.pids

    pool.restore(2, replace(STATE, index=-1, state=state))
    [reply] = wait_for(pool, 1).values()

    assert (reply.fault, "diverged while settling" in reply.error) == ("diverged", True)
    pool.execute(2, np.zeros((1, 7), np.float32))  # nothing is left to act on
    pool.execute(0, np.zeros((1, 7), np.float32))
    replies = wait_for(pool, 2)
    assert (replies[2].fault, replies[0].error) == ("lost", "")
    assert pool.pids == before == pids


def test_a_raising_slot_reports_the_error_and_its_worker_is_replaced(pool):
    neighbor, replaced = pool.pids
    pool.restore(1, STATE)
    wait_for(pool, 1)
    # No request can make a scene raise: the worker itself is sent what the pool would refuse.
    worker = pool._workers[1]
    actions = np.zeros((1, 7), np.float32)
    actions[0, 0] = np.nan
    pool._begin(1)
    request = execute_request(1, 2, 1, observe=True, video=False)
    worker.send(request, "execute", actions.tobytes(), 1, 0)
    [reply] = wait_for(pool, 1).values()

    assert (reply.fault, "must be finite" in reply.error) == ("raised", True)
    assert pool.pids[0] == neighbor
    assert not is_running(replaced)


@pytest.mark.parametrize("kind", [inline_pool, process_pool])
@pytest.mark.parametrize(
    ("spec", "sizes", "message"),
    [
        (replace(SPEC, cameras=("agentvew",)), {}, "no LIBERO scene has a camera 'agentvew'"),
        (replace(SPEC, cameras=()), {}, "at least one of agentview, .* got none"),
        (replace(SPEC, width=0), {}, "width must be >= 1 pixel, got 0"),
        (SPEC, {"num_slots": 10**7}, "need up to .* GB of memory .*, .* are available; lower env"),
        (SPEC, {"max_scenes": 10**4}, "scenes in each: 10000"),
        (SPEC, {"num_slots": 0}, "num_slots must be >= 1, got 0"),
    ],
)
def test_impossible_simulators_are_refused_before_any_is_started(kind, spec, sizes, message):
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ValueError, match=message):
        kind(spec=spec, **sizes)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_impossible_initial_states_are_refused_before_they_are_sent(pool):
    for wrong, message in (
        (replace(STATE, state=np.zeros(8)), "have length 79, got 8"),
        (replace(STATE, state=np.full(79, np.nan)), "not finite"),
        (replace(STATE, task_id=10), "has tasks 0..9, got 10"),
        (replace(STATE, suite="libero_gaol"), "did you mean 'libero_goal'"),
    ):
        with pytest.raises(ValueError, match=message):
            pool.restore(0, wrong)
    pool.restore(0, STATE)  # none of these was under way
    wait_for(pool, 1)


def test_a_scene_beyond_the_limit_is_refused_until_a_slot_is_released():
    other = make_initial_state("libero_goal", 6, 0, fixture_seed=0)
    with inline_pool(num_slots=2) as pool:
        pool.restore(0, STATE)
        pool.wait()
        assert not pool.can_restore(1, ("libero_goal", 6))
        with pytest.raises(
            ValueError, match=r"no room for scene libero_goal/6 beside libero_goal/7"
        ):
            pool.restore(1, other)

        pool.release(0)
        pool.restore(1, other)
        [reply] = pool.wait()

        assert reply.counts == {"scene_builds": 1, "scene_evictions": 1, "restores_cold": 1}
        assert pool.loaded_scenes(0) == {("libero_goal", 6)}
        pool.restore(0, other)
        assert pool.wait()[0].counts == {"restores_cached": 1}


def test_close_leaves_no_process_behind_and_can_be_repeated():
    before = set(os.listdir("/proc/self/fd"))
    pool = process_pool(num_slots=2, num_workers=2)
    pids = pool.pids

    pool.close()
    pool.close()

    assert not any(is_running(pid) for pid in pids)
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("kind", [inline_pool, process_pool])
def test_a_closed_pool_has_nothing_under_way_and_refuses_work(kind):
    pool = kind()
    pool.restore(0, STATE)
    pool.close()

    with pytest.raises(PoolClosedError, match="is closed"):
        pool.wait()
    with pytest.raises(PoolClosedError, match="is closed"):
        pool.restore(0, STATE)
