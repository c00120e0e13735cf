"""Pools send the images that a policy's network reads, shrunk where they are drawn; videos stay as rendered."""

from dataclasses import replace

import numpy as np
import pytest

from pi0.images import encode_observation
from pi0.records import ImageEncoding
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.pool.wire import pack_spec, unpack_spec
from tests.env.pools import inline_pool, process_pool
from tests.env.toys import SPEC

ENCODING = ImageEncoding(size=20, rotate_180=True)
ENCODED = replace(SPEC, encoding=ENCODING)


@pytest.mark.parametrize("spec", [SPEC, ENCODED])
def test_a_worker_learns_what_is_wanted_as_plain_values(spec):
    assert unpack_spec(pack_spec(spec)) == spec


def test_shapes_of_what_is_rendered_and_what_is_sent():
    assert ENCODED.rendered_shape == SPEC.rendered_shape == SPEC.sent_shape == (1, 32, 32, 3)
    assert ENCODED.sent_shape == (1, 20, 20, 3)


def replies(make_pool, spec):
    """The replies to a restore and to three recorded control steps."""
    with make_pool(num_slots=1, spec=spec) as pool:
        pool.restore(0, make_initial_state("libero_goal", 7, 0, fixture_seed=0))
        (first,) = pool.wait()
        pool.execute(0, np.full((3, 7), 0.2, np.float32), video=True)
        return [first, *pool.wait()]


@pytest.mark.libero
@pytest.mark.parametrize("make_pool", [inline_pool, process_pool])
def test_images_are_those_of_the_policys_own_encoding(make_pool):
    rendered, sent = replies(make_pool, SPEC), replies(make_pool, ENCODED)
    for raw, encoded in zip(rendered, sent, strict=True):
        assert (raw.error, encoded.error) == ("", "")
        wanted = encode_observation(raw.observation, ENCODING)
        assert encoded.observation.encoding == ENCODING
        np.testing.assert_array_equal(encoded.observation.images, wanted.images)
        np.testing.assert_array_equal(encoded.observation.proprio, raw.observation.proprio)
        assert "encode_s" in encoded.timings
    assert sent[1].frames == rendered[1].frames
