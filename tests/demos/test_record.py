"""Scripted experts on real LIBERO, and the labels made from what they did."""

from dataclasses import replace

import numpy as np
import pytest

from pi0.records import Observation
from pi0.ript.demos.experts.tables import EXPERTS
from pi0.ript.demos.record import ExpertEpisode, chunk_labels, run_expert
from pi0.ript.demos.recorder import record_all
from pi0.ript.demos.settings import DemoSettings
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.libero.scene import Scene
from pi0.ript.scripts.demos import main
from pi0.ript.seeding import practice_fixtures
from pi0.tiny import tiny_card


def test_labels_are_the_next_actions_and_hold_the_last_one():
    observation = Observation(images=np.zeros((1, 2, 2, 3), np.uint8), proprio=np.zeros(9))
    actions = np.repeat(np.arange(5, dtype=np.float32)[:, None], 7, axis=1)
    episode = ExpertEpisode(
        frames=(observation, observation),
        frame_steps=(0, 3),
        actions=actions,
        executed=actions,
        is_success=True,
    )

    labels = chunk_labels(episode, horizon=4)

    # From step 0: actions 0 1 2 3. From step 3: actions 3 4, then the last one held.
    assert labels[:, :, 0].tolist() == [[0, 1, 2, 3], [3, 4, 4, 4]]


@pytest.mark.parametrize(
    ("flag", "value", "allowed"),
    [
        ("num_workers", "0", ">= 1"),
        ("per_task", "0", ">= 1"),
        ("num_held_out_states", "50", r"in \[0, 49\]"),
        ("fixture_seed", "-1", r"in \[0, 4294967295\]"),
        ("action_noise", "nan", "finite and >= 0"),
        ("action_noise", "-0.1", "finite and >= 0"),
    ],
)
def test_a_bad_number_is_refused_before_the_folder_is_made(tmp_path, flag, value, allowed):
    with pytest.raises(ValueError, match=f"--{flag} must be {allowed}, got {value}"):
        main(["--output_dir", str(tmp_path / "demos"), f"--{flag}", value])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--suite", "libero_90", "--tasks", "3"],
            "no expert can do libero_90/3 reliably; there are experts for",
        ),
        (["--suite", "libero_gaol"], "unknown suite 'libero_gaol'; did you mean 'libero_goal'"),
        (["--suite", "libero_goal", "--tasks", "11"], "suite libero_goal has tasks 0..9, got 11"),
        (["--tasks", "7"], "--tasks needs --suite, e.g. --suite libero_goal"),
    ],
)
def test_tasks_that_cannot_be_recorded_are_refused_before_the_folder_is_made(
    tmp_path, flags, message
):
    with pytest.raises(ValueError, match=message):
        main(["--output_dir", str(tmp_path / "demos"), *flags])
    assert not list(tmp_path.iterdir())


def test_a_machine_that_cannot_draw_is_named_in_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(ChildProcessError, match="recording libero_goal 7 ended with status 1"):
        record_all([("libero_goal", 7)], tiny_card().spec, DemoSettings(), tmp_path, num_workers=1)
    assert "error: MUJOCO_GL must be one of egl, osmesa" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.libero
def test_an_attempt_whose_physics_diverge_has_failed():
    scene = Scene("libero_goal", 7, tiny_card().spec, num_slots=1, num_steps_wait=0)
    start = make_initial_state("libero_goal", 7, 0, 0)
    state = start.state.copy()
    state[-1] = 1e300  # of the velocities

    episode = run_expert(scene, replace(start, state=state), 5, DemoSettings(max_steps=20))
    scene.close()

    assert not episode.is_success
    assert len(episode.actions) < 20


@pytest.mark.libero
@pytest.mark.parametrize(("suite", "task_id"), [("libero_goal", 7), ("libero_goal", 6)])
def test_experts_succeed_and_repeat_bit_for_bit(suite: str, task_id: int):
    assert (suite, task_id) in EXPERTS
    scene = Scene(suite, task_id, tiny_card().spec, num_slots=1, num_steps_wait=10)
    start = make_initial_state(suite, task_id, 0, practice_fixtures(suite, task_id))
    settings = DemoSettings(frame_every=20)

    episode = run_expert(scene, start, 5, settings)
    again = run_expert(scene, start, 5, settings)
    scene.close()

    assert episode.is_success
    np.testing.assert_array_equal(episode.actions, again.actions)
    np.testing.assert_array_equal(episode.frames[-1].images, again.frames[-1].images)
    assert episode.frame_steps == tuple(range(0, len(episode.actions), 20))
