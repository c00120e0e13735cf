"""What a policy did in an evaluation is re-played exactly, from the actions alone."""

from dataclasses import replace

import numpy as np
import pytest

from pi0.ript.datasets.opening import open_frames
from pi0.ript.demos.rollout_replayer import replay
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.libero.scene import Scene
from pi0.ript.report.action_log import ACTIONS_NAME, ActionLog, read_rollouts
from pi0.ript.scripts import demos as demos_program
from pi0.ript.scripts import replay as replay_program
from pi0.ript.scripts.replay import main
from pi0.tiny import tiny_card
from tests.report.test_action_log import episode, write

SUITE, TASK_ID = "libero_goal", 7
SPEC = tiny_card().spec


def test_source_without_rollouts_and_choices_without_any_are_refused(tmp_path):
    arguments = [str(tmp_path), "--output_dir", str(tmp_path / "set")]
    with pytest.raises(FileNotFoundError, match="holds no rollouts"):
        main(arguments)
    write(tmp_path, "all", episode("failure"))
    for options, named in (
        ([], "--outcome successes"),
        (["--outcome", "all", "--steps", "2:"], "--steps 2:"),
    ):
        with pytest.raises(ValueError, match=f"none of 1 saved rollouts is wanted.*{named}"):
            main([*arguments, *options])
    assert not (tmp_path / "set").exists()


def test_odd_videos_are_refused_before_anything_is_drawn(tmp_path):
    with pytest.raises(ValueError, match=r"--render_size 95 is odd.*use 96"):
        main([str(tmp_path), "--output_dir", str(tmp_path / "set"), "--render_size", "95"])


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Two episodes by chance actions in chunks, with the observations between them."""
    folder = tmp_path_factory.mktemp("evaluated")
    scene = Scene(SUITE, TASK_ID, SPEC, num_slots=1, num_steps_wait=10)
    log, seen = ActionLog(folder / ACTIONS_NAME, "all", 10), []
    for seed in (1, 2):
        state = make_initial_state(SUITE, TASK_ID, seed, 100 + seed)
        observation, steps = scene.restore(0, state), []
        for step in episode(seed=seed).policy_steps:
            steps.append(replace(step, observation=observation))
            actions = step.chunk.actions[: step.num_executed]
            observation = scene.execute(0, actions).observation
        request = replace(episode(seed=seed).request, initial_state=state)
        done = replace(episode("failure", seed), request=request, policy_steps=tuple(steps))
        log.append([log.entry(0, done)])
        seen.append(done)
    log.close()
    scene.close()
    return folder, seen


@pytest.mark.libero
def test_physics_and_images_repeat_bit_for_bit(evaluated):
    folder, seen = evaluated
    scene = Scene(SUITE, TASK_ID, SPEC, num_slots=1, num_steps_wait=10)
    try:
        for stored, done in zip(read_rollouts(folder), seen, strict=True):
            frames = replay(scene, stored)
            assert len(frames) == 10
            for step, at in zip(done.policy_steps, (0, 4, 8), strict=True):
                assert np.array_equal(frames.proprio[at], step.observation.proprio)
                assert np.array_equal(frames.images[at], step.observation.images)
            with pytest.raises(
                ValueError, match=r"stored as success after 10 .* re-played as failure"
            ):
                replay(scene, replace(stored, is_success=True))
    finally:
        scene.close()


@pytest.mark.slow
@pytest.mark.libero
def test_program_writes_a_set_that_is_read_back(evaluated, tmp_path):
    folder, seen = evaluated
    look = ["--render_size", "96", "--cameras", "agentview", "--images", "png", "--outcome", "all"]
    replay_program.main([str(folder), "--output_dir", str(tmp_path / "set"), *look])
    frames = open_frames(tmp_path / "set", ("agentview",))
    assert frames.episode_index is not None
    assert frames.episode_index.tolist() == [0] * 10 + [1] * 10
    chunk = frames.read_chunks(np.array([4]), 4)[0]
    assert np.array_equal(chunk, seen[0].policy_steps[1].chunk.actions)


@pytest.mark.slow
@pytest.mark.libero
def test_demonstrations_become_a_lerobot_set(tmp_path):
    look = ["--render_size", "96", "--cameras", "agentview", "--format", "lerobot"]
    chosen = ["--suite", SUITE, "--tasks", str(TASK_ID), "--per_task", "1"]
    demos_program.main(["--output_dir", str(tmp_path / "set"), *chosen, *look])
    frames = open_frames(tmp_path / "set", ("agentview",))
    assert frames.tasks == ("turn on the stove",)
    assert len(frames) > 20
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
