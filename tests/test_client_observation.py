import numpy as np
import pytest

from pi0.client_observation import ClientObservation, to_observation
from pi0.codec import Codec, raw_state
from pi0.ript.serve.acting import ServedPolicy
from pi0.ript.serve.requests import ActionRequest
from tests.policy_parts import (
    TASKS,
    make_observations,
    small_card,
    small_policy,
    small_stats,
)

SEEDS = (11, 12, 13)


def as_client_sends(observation, card):
    """What openpi's client makes of an observation: turned, shrunk, the state computed."""
    codec = Codec(card=small_card(), stats=small_stats())
    return ClientObservation(
        images=tuple(codec.encode_images([observation])[0]),
        state=raw_state(observation.proprio[None], "axis_angle")[0],
    )


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="pi0"),
        pytest.param({"extra_delta": False, "rotate_180": True}, id="absolute"),
        pytest.param(
            {"is_pi05": True, "prompt_state": "8", "extra_delta": False, "max_prompt_tokens": 200},
            id="state-in-prompt",
        ),
    ],
)
def test_client_gets_the_bits_of_a_local_policy(changes):
    policy = small_policy(**changes)
    observations = make_observations(3)
    served = ServedPolicy(policy, num_steps=4)
    requests = [
        ActionRequest(observation=as_client_sends(o, policy.card), prompt=task, seed=seed)
        for o, task, seed in zip(observations, TASKS, SEEDS, strict=False)
    ]
    chunks = policy.act(observations, TASKS[:3], SEEDS, served.sampling)
    for actions, chunk in zip(served(requests), chunks, strict=True):
        assert actions.shape == (policy.card.horizon, 7)
        assert np.array_equal(actions[: policy.card.execute_steps], chunk.actions)


def test_policy_that_reads_images_as_rendered_is_given_them_so():
    card = small_card(rotate_180=False)
    (observation,) = make_observations(1)
    client = as_client_sends(observation, card)  # turned, as every client does
    seen = Codec(card=card, stats=small_stats()).encode_images([to_observation(client, card)])
    assert np.array_equal(seen[0], observation.images)


def test_images_of_any_size_are_fitted():
    card = small_card()
    sizes = ((40, 40, 3), (28, 56, 3))
    images = tuple(np.full(size, 200, np.uint8) for size in sizes)
    observation = to_observation(ClientObservation(images=images, state=np.zeros(8)), card)
    assert observation.images.shape == (2, 28, 28, 3)
    # the wide one is shrunk to 14 x 28 and lies between two black bars of 7
    assert (observation.images[1].max(axis=(1, 2)) == 200).tolist() == [False] * 7 + [True] * 14 + [
        False
    ] * 7


def test_axis_angle_of_a_client_means_the_rotation_of_its_quaternion():
    proprio = np.stack([o.proprio for o in make_observations(50)])
    sent = raw_state(proprio, "axis_angle")
    assert np.array_equal(raw_state(sent, "axis_angle"), sent)
    assert np.allclose(
        raw_state(sent, "rotation6d"), raw_state(proprio, "rotation6d"), rtol=0, atol=1e-12
    )
    # no rotation at all
    assert np.array_equal(raw_state(np.zeros((1, 8)), "rotation6d")[0, 3:9], [1, 0, 0, 0, 1, 0])
