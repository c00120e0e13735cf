"""The reference images and states inside of the package are those of LIBERO under MuJoCo 3.3.2."""

import numpy as np
import pytest

from pi0.ript.env.libero.references import SITUATIONS, SPEC, deviation, key
from tests.golden import golden


@pytest.fixture(params=SITUATIONS, ids=key)
def original(request):
    """A situation with LIBERO's own images and state."""
    with np.load(golden("libero_mujoco332.npz")) as reference:
        name = key(request.param)
        images = np.stack([reference[f"{name}/{camera}"] for camera in SPEC.cameras])
        return request.param, images, reference[f"{name}/state"]


def test_they_are_liberos_own(original):
    found = deviation(*original)

    assert found.image == 0
    assert found.state < 1e-12  # recorded on another processor
    assert found.is_within_bounds


@pytest.mark.parametrize("change", [lambda i: i[:, ::-1], lambda i: i[..., ::-1], lambda i: i // 2])
def test_upside_down_other_colors_and_darkness_are_out_of_bounds(original, change):
    situation, images, state = original

    assert not deviation(situation, change(images), state).is_within_bounds


def test_another_settled_state_is_out_of_bounds(original):
    situation, images, state = original

    assert not deviation(situation, images, state + 1e-6).is_within_bounds
