"""A simulator process compares itself with LIBERO before its first episode."""

import logging
from contextlib import closing

import pytest

from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.libero import control_steps
from pi0.ript.env.pool.inline_pool import InlinePool
from pi0.ript.env.pool.wire import require_exact
from pi0.ript.interfaces import ExactnessError, Reply
from tests.env.toys import SPEC

pytestmark = pytest.mark.libero

STATE = make_initial_state("libero_goal", 7, 0, fixture_seed=0)
ONE_LINE = r"libero_goal 7 the engine differs .* physics by .*mujoco 3.3.2, .* numba .*--env.exactness warn"


def leave_out_solver_passes(monkeypatch):
    """Let the engine do what was exact under newer versions of MuJoCo."""
    monkeypatch.setattr(control_steps.ControlSteps, "_warm_start", lambda self, slot: None)


def pool(exactness):
    return InlinePool(SPEC, 1, max_scenes=1, num_steps_wait=2, exactness=exactness)


def test_a_sound_engine_begins_and_can_be_checked_again():
    from pi0.ript.env.libero.scene import Scene  # noqa: PLC0415 - loads the simulator
    from pi0.ript.env.libero.self_check import find_difference  # noqa: PLC0415 - as above

    with closing(Scene("libero_goal", 7, SPEC, num_slots=1, num_steps_wait=2)) as scene:
        before = scene.restore(0, STATE)
        assert find_difference(scene, 3) == ""
        assert find_difference(scene, 30) == ""
        assert (scene.restore(0, STATE).images == before.images).all()


def test_an_engine_that_differs_ends_the_run_in_one_line(monkeypatch):
    leave_out_solver_passes(monkeypatch)
    with pool("check") as simulators:
        simulators.restore(0, STATE)
        with pytest.raises(ExactnessError, match=ONE_LINE):
            simulators.wait()


def test_warn_goes_on(monkeypatch, caplog):
    leave_out_solver_passes(monkeypatch)
    with pool("warn") as simulators, caplog.at_level(logging.WARNING):
        simulators.restore(0, STATE)
        [reply] = simulators.wait()

    assert not reply.error
    assert "the engine differs" in caplog.text


def test_what_a_worker_finds_ends_the_program_that_started_it():
    found = Reply(slot=0, observation=None, is_success=False, num_steps=0,
                  error="the engine differs", fault="inexact")  # fmt: skip

    with pytest.raises(ExactnessError, match="the engine differs"):
        require_exact(found)
