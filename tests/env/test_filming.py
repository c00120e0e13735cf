"""An episode is the same with and without a picture after every control step, wherever it runs."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from pi0.records import Sampling
from pi0.ript.config.schema import EnvConfig, TaskConfig, TrainConfig
from pi0.ript.env.pi0_libero_runner_ript_vla import PI0LiberoRunner
from pi0.ript.env.suites import make_initial_state
from pi0.ript.types import EpisodeRequest
from tests.env.toys import HORIZON, SPEC, ToyPolicy

NUM_STEPS = 10
FILMED, PLAIN = 2, 2


def requests():
    """Two episodes, each filmed at every step and once more not filmed."""
    plain = [
        EpisodeRequest(
            initial_state=make_initial_state("libero_goal", 7, n, fixture_seed=0),
            seed=n,
            max_steps=NUM_STEPS,
            rollout=n,
        )
        for n in range(PLAIN)
    ]
    return [replace(request, is_filmed=True, film_rate="steps") for request in plain] + plain


def run(runner):
    """Return the filmed and the plain episodes, each by number of their request."""
    waiting = iter(requests())
    filmed, plain = {}, {}
    for episode in runner.run(lambda: next(waiting, None), Sampling(num_steps=1)):
        (filmed if episode.request.is_filmed else plain)[episode.request.rollout] = episode
    return filmed, plain


def observations(episode):
    return [decision.observation.images for decision in episode.decisions]


@pytest.mark.libero
@pytest.mark.parametrize(
    "backend", ["inline", "process", pytest.param("ray", marks=pytest.mark.alone)]
)
def test_filmed_episodes_equal_plain_ones_bit_for_bit(backend):
    config = TrainConfig(
        task=TaskConfig(benchmark_name="libero_goal", task_name=7),
        env=EnvConfig(backend=backend, num_workers=1, max_scenes=1),
    )
    with PI0LiberoRunner(ToyPolicy(), num_parallel_envs=2, config=config) as runner:
        filmed, plain = run(runner)
        stats, seconds_per_picture = runner.stats, runner.seconds_per_picture

    assert len(filmed) == FILMED
    assert len(plain) == PLAIN
    for number, episode in filmed.items():
        twin = plain[number]
        assert (episode.outcome, episode.num_steps) == (twin.outcome, twin.num_steps)
        assert len(episode.decisions) == len(twin.decisions) == -(-NUM_STEPS // HORIZON)
        for ours, theirs in zip(episode.decisions, twin.decisions, strict=True):
            np.testing.assert_array_equal(ours.observation.images, theirs.observation.images)
            np.testing.assert_array_equal(ours.observation.proprio, theirs.observation.proprio)
            np.testing.assert_array_equal(ours.chunk.actions, theirs.chunk.actions)
        # One strip per decision, one picture per step; the last of a strip is what the policy saw next.
        assert [len(strip) for strip in episode.strips] == [4, 4, 2]
        assert episode.strips[0].shape[1:] == (len(SPEC.cameras), SPEC.height, SPEC.width, 3)
        for strip, observation in zip(episode.strips, observations(twin)[1:], strict=False):
            np.testing.assert_array_equal(strip.unpack()[-1], observation)
        pictures = np.concatenate([strip.unpack() for strip in episode.strips])
        assert all((a != b).any() for a, b in pairwise(pictures))
    assert all(twin.strips == () for twin in plain.values())
    assert stats.num_film_pictures == FILMED * NUM_STEPS
    assert stats.film_seconds > 0
    assert seconds_per_picture == stats.film_seconds / stats.num_film_pictures
    assert stats.metrics(1.0)["time/worker_film_s"] == stats.film_seconds
