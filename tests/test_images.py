"""Images that a simulator has encoded reach the network as the same bits, and videos the same way up."""

from dataclasses import replace

import numpy as np
import pytest

from pi0.codec import Codec
from pi0.images import as_rendered, encode_observation
from pi0.records import Observation
from tests.policy_parts import small_card, small_stats


def card(**changes):
    return small_card(render_size=40, image_size=28, **changes)


def observation(cameras=2):
    images = np.random.default_rng(0).integers(0, 256, (cameras, 40, 40, 3), dtype=np.uint8)
    return Observation(images=images, proprio=np.ones(9))


@pytest.mark.parametrize("rotate_180", [True, False])
def test_the_network_gets_the_same_bits_wherever_images_are_encoded(rotate_180):
    chosen = card(rotate_180=rotate_180)
    codec = Codec(card=chosen, stats=small_stats())
    rendered = observation()
    encoded = encode_observation(rendered, chosen.encoding)
    assert encoded.images.shape == (2, 28, 28, 3)
    here, there, mixed = (
        codec.encode_images(some) for some in ([rendered], [encoded], [encoded, rendered])
    )
    assert here.dtype == there.dtype == np.uint8
    assert np.array_equal(here, there)
    assert np.array_equal(mixed, np.concatenate([here, here]))


def test_there_is_nothing_to_encode_without_a_change_of_size_or_between_whole_numbers():
    assert card().encoding is not None
    assert small_card(render_size=28, image_size=28).encoding is None
    assert card(resize="lerobot").encoding is None


@pytest.mark.parametrize("rotate_180", [True, False])
def test_a_video_shows_encoded_images_as_rendered_ones(rotate_180):
    rendered = observation()
    images = np.zeros_like(rendered.images)
    images[:, :10, 10:20] = 200  # a bright patch that no turn or mirror leaves in place
    encoded = encode_observation(
        replace(rendered, images=images), card(rotate_180=rotate_180).encoding
    )
    same_size = as_rendered(encoded, (40, 40))
    assert same_size.shape == images.shape
    assert np.abs(same_size.astype(int) - images)[:, 2:8, 12:18].max() < 5
    assert same_size[:, 14:, :].max() == 0
    assert as_rendered(encoded).shape == (2, 28, 28, 3)
    assert as_rendered(rendered, (40, 40)) is rendered.images


def test_every_observation_needs_all_cameras():
    with pytest.raises(ValueError, match="needs 2 cameras"):
        Codec(card=card(), stats=small_stats()).encode_images([observation(cameras=1)])
