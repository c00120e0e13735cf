"""Random changes of training images, as openpi makes them: crop, turn, brightness, contrast, saturation.

openpi fine-tunes with them (``preprocess_observation`` with ``train=True``; formulas of its PyTorch code,
src/openpi/models_pytorch/preprocessing_pytorch.py), each image with numbers of its own. A camera on the wrist is not cropped
and turned: what it sees hangs together with where the hand is.

Shape legend: B samples, N cameras.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from pi0.inputs import Inputs

NUMBERS = 6
"""Uniform numbers per image: left, top, turn, brightness, contrast, saturation."""
CROP = 0.95
MOST_DEGREES = 5.0
BRIGHTNESS, CONTRAST, SATURATION = 0.3, 0.4, 0.5
"""A factor of 1 up to this much more or less."""
WRIST = ("wrist", "eye_in_hand")
"""What the name of a camera on the wrist contains: openpi's, and LIBERO's."""


def augmented(inputs: Inputs, numbers: NDArray[np.float32], cameras: tuple[str, ...]) -> Inputs:
    """Return inputs with changed images, float32 in [0, 255].

    Args:
        inputs: Encoded, on the CPU.
        numbers: float32 [B, N, ``NUMBERS``] in [0, 1).
        cameras: Names of the N cameras.
    """
    images = inputs.images.float() / 255.0
    for camera, name in enumerate(cameras):
        drawn = torch.from_numpy(numbers[:, camera])
        some = images[:, camera].permute(0, 3, 1, 2)  # [B, 3, size, size]
        if not any(word in name for word in WRIST):
            some = turned(cropped(some, drawn[:, :2]), MOST_DEGREES * (2 * drawn[:, 2] - 1))
        images[:, camera] = recolored(some, drawn[:, 3:]).permute(0, 2, 3, 1)
    return replace(inputs, images=images * 255.0)


def cropped(images: Tensor, drawn: Tensor) -> Tensor:
    """Return a part of every image, enlarged to the whole.

    Args:
        images: Float32 [B, 3, H, W].
        drawn: Float32 [B, 2] in [0, 1), where its left and upper edges are.
    """
    height, width = images.shape[2:]
    size = int(height * CROP), int(width * CROP)
    left = (drawn[:, 0] * (width - size[1] + 1)).int().tolist()
    top = (drawn[:, 1] * (height - size[0] + 1)).int().tolist()
    parts = [
        image[:, y : y + size[0], x : x + size[1]]
        for image, x, y in zip(images, left, top, strict=True)
    ]
    return interpolate(torch.stack(parts), (height, width), mode="bilinear", align_corners=False)


def turned(images: Tensor, degrees: Tensor) -> Tensor:
    """Return images [B, 3, H, W] turned about their centers by ``degrees`` [B]; corners become black."""
    height, width = images.shape[2:]
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    angle = torch.deg2rad(degrees)[:, None, None]
    cosine, sine = angle.cos(), angle.sin()
    grid = torch.stack([x * cosine - y * sine, x * sine + y * cosine], dim=-1)
    return grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def recolored(images: Tensor, drawn: Tensor) -> Tensor:
    """Return images [B, 3, H, W] in [0, 1] with other brightness, contrast and saturation, ``drawn`` [B, 3] in [0, 1)."""
    most = torch.tensor([BRIGHTNESS, CONTRAST, SATURATION])
    factors = 1 + most * (2 * drawn - 1)
    brightness, contrast, saturation = factors[:, :, None, None, None].unbind(dim=1)
    images = images * brightness
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - mean) * contrast + mean
    gray = images.mean(dim=1, keepdim=True)
    return (gray + (images - gray) * saturation).clamp(0, 1)
