"""An episode is the same with and without an image after every control step, in every pool."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from pi0.records import Sampling
from pi0.ript.config.schema import EnvConfig, TaskConfig, TrainConfig
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.pi0_libero_runner_ript_vla import PI0LiberoRunner
from pi0.ript.types import EpisodeRequest
from tests.env.toys import HORIZON, SPEC, ToyPolicy

NUM_STEPS = 10
RECORDED, PLAIN = 2, 2


def requests():
    """Two episodes, each once with a video of every step and once without."""
    plain = [
        EpisodeRequest(
            initial_state=make_initial_state("libero_goal", 7, n, fixture_seed=0),
            seed=n,
            max_steps=NUM_STEPS,
            rollout=n,
        )
        for n in range(PLAIN)
    ]
    return [replace(request, record_video=True, video_rate="steps") for request in plain] + plain


def run(runner):
    """Return the recorded and the plain episodes, each by number of their request."""
    waiting = iter(requests())
    recorded, plain = {}, {}
    for episode in runner.run(lambda: next(waiting, None), Sampling(num_steps=1)):
        (recorded if episode.request.record_video else plain)[episode.request.rollout] = episode
    return recorded, plain


def observations(episode):
    return [policy_step.observation.images for policy_step in episode.policy_steps]


@pytest.mark.libero
@pytest.mark.parametrize(
    "backend", ["inline", "process", pytest.param("ray", marks=pytest.mark.alone)]
)
def test_recorded_episodes_equal_plain_ones_bit_for_bit(backend):
    config = TrainConfig(
        task=TaskConfig(benchmark_name="libero_goal", task_name=7),
        env=EnvConfig(backend=backend, num_workers=1, max_scenes=1),
    )
    with PI0LiberoRunner(ToyPolicy(), num_parallel_envs=2, config=config) as runner:
        recorded, plain = run(runner)
        stats, seconds_per_image = runner.stats, runner.seconds_per_image

    assert len(recorded) == RECORDED
    assert len(plain) == PLAIN
    for number, episode in recorded.items():
        other = plain[number]
        assert (episode.outcome, episode.num_steps) == (other.outcome, other.num_steps)
        assert len(episode.policy_steps) == len(other.policy_steps) == -(-NUM_STEPS // HORIZON)
        for ours, theirs in zip(episode.policy_steps, other.policy_steps, strict=True):
            np.testing.assert_array_equal(ours.observation.images, theirs.observation.images)
            np.testing.assert_array_equal(ours.observation.proprio, theirs.observation.proprio)
            np.testing.assert_array_equal(ours.chunk.actions, theirs.chunk.actions)
        # Frames per policy step, one per control step; the last of them is observed next.
        assert [len(frames) for frames in episode.frames] == [4, 4, 2]
        assert episode.frames[0].shape[1:] == (len(SPEC.cameras), SPEC.height, SPEC.width, 3)
        for frames, observation in zip(episode.frames, observations(other)[1:], strict=False):
            np.testing.assert_array_equal(frames.unpack()[-1], observation)
        images = np.concatenate([frames.unpack() for frames in episode.frames])
        assert all((a != b).any() for a, b in pairwise(images))
    assert all(episode.frames == () for episode in plain.values())
    assert stats.num_video_frames == RECORDED * NUM_STEPS
    assert stats.video_seconds > 0
    assert seconds_per_image == stats.video_seconds / stats.num_video_frames
    assert stats.metrics(1.0)["time/worker_video_s"] == stats.video_seconds
