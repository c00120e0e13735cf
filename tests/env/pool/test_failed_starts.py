"""Workers that cannot start: every reason is one line that says what to change."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from pi0.ript.env.libero.headless import RenderingError
from pi0.ript.env.pool.worker_process import WorkerStartError
from tests.env.pool.replies import STATE, wait_for
from tests.env.pools import process_pool


def test_a_worker_that_ends_while_starting_is_an_error_of_one_line():
    with process_pool() as pool:
        os.kill(pool.pids[0], signal.SIGKILL)
        with pytest.raises(
            WorkerStartError, match=r"ended while starting \(SIGKILL, .* lower env\.num_workers"
        ):
            pool.wait_until_ready()

    with process_pool() as pool:
        os.kill(pool.pids[0], signal.SIGTERM)
        with pytest.raises(WorkerStartError, match=r"ended while starting \(SIGTERM\)"):
            wait_for(pool, 1, begin=lambda: pool.restore(0, STATE))


def test_rendering_that_cannot_work_says_what_to_change(monkeypatch):
    monkeypatch.setenv("MUJOCO_EGL_DEVICE_ID", "99")
    with process_pool() as pool:
        pool.restore(0, STATE)
        with pytest.raises(RenderingError, match=r"could not start: EGL device 99 .* unset"):
            pool.wait()


def test_a_renderer_that_does_not_exist_is_an_error_of_one_line(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "warp")
    with (
        process_pool() as pool,
        pytest.raises(RenderingError, match=r"could not start: MUJOCO_GL must be .* got 'warp'"),
    ):
        pool.wait_until_ready()


def test_any_other_failure_to_start_a_worker_is_an_error_of_one_line(monkeypatch, tmp_path):
    (tmp_path / "mujoco.py").write_text("raise KeyError('a broken installation')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with (
        process_pool() as pool,
        pytest.raises(WorkerStartError, match="could not start: KeyError: 'a broken installation'"),
    ):
        pool.wait_until_ready()


def test_a_request_after_a_failed_start_raises_its_reason_too(monkeypatch):
    monkeypatch.setenv("MUJOCO_EGL_DEVICE_ID", "99")
    with process_pool() as pool:
        [pid] = pool.pids
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it has ended by itself
        with pytest.raises(RenderingError, match="could not start"):
            pool.restore(0, STATE)


def test_a_rollout_without_rendering_ends_in_one_line_and_status_two():
    # The pool is opened outside of the rollout, as in the programs.
    program = """
    from pi0.records import Sampling
    from pi0.ript.env.rollout.scheduler import Scheduler
    from pi0.ript.env.rollout.stats import RolloutStats
    from pi0.ript.env.initial_states import make_initial_state
    from pi0.ript.scripts.exits import run_main
    from pi0.ript.types import EpisodeRequest
    from tests.env.pools import process_pool
    from tests.env.toys import ToyPolicy

    def main(argv):
        state = make_initial_state("libero_goal", 7, 0, fixture_seed=0)
        requests = iter(EpisodeRequest(initial_state=state, seed=n, max_steps=4) for n in range(4))
        with process_pool(num_slots=3, num_workers=2) as pool:
            list(Scheduler(pool, ToyPolicy(), lambda: next(requests, None), batch_size=2,
                 sampling=Sampling(num_steps=4), max_attempts=3, max_restarts=20, stats=RolloutStats()).run())

    run_main(main, [])
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "MUJOCO_EGL_DEVICE_ID": "99"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 2
    assert len(errors) == 1
    assert "unset MUJOCO_EGL_DEVICE_ID" in errors[0]
    assert "Traceback" not in result.stderr
