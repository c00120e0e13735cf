"""A video of a real simulator is upright and has its colors, measured against MuJoCo's own renderer."""

import mujoco
import numpy as np
import pytest

from pi0.records import ObservationSpec
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.libero.libero_env import LiberoEnv
from pi0.ript.env.libero.scene import Scene
from pi0.ript.env.libero.slot import set_model_state
from pi0.ript.env.suites import bddl_file
from pi0.ript.report.video import episode_frames, read_video, write_video
from pi0.ript.types import Episode, EpisodeRequest, PolicyStep
from tests.report.episodes import make_episode

pytestmark = pytest.mark.libero

SIZE = 256


def recorded(observation):
    policy_step = PolicyStep(
        observation=observation, chunk=make_episode().policy_steps[0].chunk, num_executed=1
    )
    state = make_initial_state("libero_goal", 7, 0, 0)
    return Episode(
        request=EpisodeRequest(initial_state=state, seed=0, max_steps=10),
        task="turn on the stove",
        policy_steps=(policy_step,) * 3,
        outcome="failure",
        num_steps=3,
    )


def test_video_equals_what_mujoco_draws_and_none_of_its_reflections(tmp_path):
    spec = ObservationSpec(cameras=("agentview",), height=SIZE, width=SIZE)
    scene = Scene("libero_goal", 7, spec, num_slots=1, num_steps_wait=10)
    observation = scene.restore(0, make_initial_state("libero_goal", 7, 0, 0))
    slot = scene._slots[0]
    model, data = LiberoEnv(bddl_file("libero_goal", 7)).model, slot.data
    set_model_state(model, slot.model_state)  # the scene's own model has given its textures back
    path = write_video(tmp_path / "video.mp4", episode_frames(recorded(observation)))
    video = read_video(path)[0].astype(float)
    option = mujoco.MjvOption()
    option.geomgroup[0] = 0  # collision shapes, which LIBERO does not draw
    with mujoco.Renderer(model, SIZE, SIZE) as renderer:
        renderer.update_scene(data, camera="agentview", scene_option=option)
        truth = renderer.render().astype(float)
    scene.close()

    def distance(image):
        return np.abs(video - image).mean()

    assert distance(truth) < 12
    for wrong in (truth[::-1], truth[:, ::-1], truth[::-1, ::-1], truth[:, :, ::-1]):
        assert distance(wrong) > 1.5 * distance(truth)
