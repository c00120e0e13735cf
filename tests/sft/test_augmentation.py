"""Changes of training images: small images with known answers, and openpi's formulas written out."""

import numpy as np
import pytest
import torch

from pi0.inputs import Inputs
from pi0.ript.sft.augmentation import augmented, cropped, recolored, turned


def uniform(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float32)


def gradient(size: int = 40) -> torch.Tensor:
    """Each pixel is its column, from 0 at the left to ``size - 1``; [1, 3, size, size]."""
    return torch.arange(size, dtype=torch.float32).expand(1, 3, size, size).clone()


def test_a_crop_shows_95_percent_enlarged_to_the_whole():
    """Of 40 columns 38 are left, and there are three places for them: 0, 1, 2."""
    left, middle, right = (cropped(gradient(), uniform(x, 0.0)) for x in (0.0, 0.4, 0.99))

    assert left.shape == (1, 3, 40, 40)
    assert left[0, 0, 0, 0] == 0.0
    assert left[0, 0, 0, -1] == 37.0
    # 0.4 of three places is the second one
    assert middle[0, 0, 0, 0] == 1.0
    assert right[0, 0, 0, -1] == 39.0
    # the steps from column to column are 38 / 40 as long
    assert float(middle[0, 0, 5, 21] - middle[0, 0, 5, 20]) == pytest.approx(0.95, abs=1e-5)


def test_no_turn_leaves_the_image_nearly_alone_and_a_quarter_turns_it():
    size = 41
    image = gradient(size)

    # openpi's grid reaches from the first to the last pixel, and its lookup from edge to edge: 41 / 40 as wide
    still = turned(image, torch.zeros(1))
    quarter = turned(image, torch.full((1,), 90.0))

    center = size // 2
    assert still[0, 0, center, center] == pytest.approx(20.0, abs=1e-4)
    assert still[0, 0, 7, 30] == pytest.approx(20 + 10 * size / (size - 1), abs=1e-4)
    # columns have become rows: further up is what was further right
    assert quarter[0, 0, 10, center] == pytest.approx(20 + 10 * size / (size - 1), abs=1e-3)


def test_colors_in_the_middle_of_their_ranges_stay():
    image = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))

    assert torch.allclose(recolored(image, uniform(0.5, 0.5, 0.5)), image, atol=1e-6)


def test_brightness_contrast_and_saturation_are_factors():
    image = torch.zeros(1, 3, 1, 2)
    image[0, :, 0, 0] = torch.tensor([0.2, 0.4, 0.6])
    image[0, :, 0, 1] = torch.tensor([0.4, 0.4, 0.4])

    # the darkest: 30 % less
    assert torch.allclose(recolored(image, uniform(0.0, 0.5, 0.5)), 0.7 * image, atol=1e-6)
    # no less than 60 % of the contrast around the mean of 0.4
    assert torch.allclose(
        recolored(image, uniform(0.5, 0.0, 0.5)), 0.4 + 0.6 * (image - 0.4), atol=1e-6
    )
    # half of the saturation: half as far from each pixel's gray, which is 0.4
    half = torch.tensor([0.3, 0.4, 0.5])
    assert torch.allclose(recolored(image, uniform(0.5, 0.5, 0.0))[0, :, 0, 0], half, atol=1e-6)
    # what leaves the range is clipped
    assert float(recolored(image * 2, uniform(0.99, 0.99, 0.99)).max()) == 1.0


def test_wrist_cameras_keep_their_place_and_each_image_has_numbers_of_its_own():
    size = 40
    images = np.broadcast_to(
        np.arange(size, dtype=np.uint8)[None, None, None, :, None], (2, 2, size, size, 3)
    )
    inputs = Inputs(
        images=torch.from_numpy(images.copy()),
        token_ids=torch.zeros(2, 1, dtype=torch.int64),
        is_valid=torch.ones(2, 1, dtype=torch.bool),
        state=torch.zeros(2, 8),
    )
    numbers = np.full((2, 2, 6), 0.5, dtype=np.float32)  # no turn, no change of color
    numbers[1, :, 0] = 0.99

    changed = augmented(inputs, numbers, ("agentview", "robot0_eye_in_hand")).images

    assert changed.dtype == torch.float32
    assert changed[:, 1].numpy() == pytest.approx(images[:, 1], abs=1e-3)
    # the crop of the second sample lies one column further right
    middle = changed[:, 0, size // 2, 20, 0]
    assert float(middle[1] - middle[0]) == pytest.approx(1.0, abs=0.05)
