"""How a simulator's images become what a network reads, in plain numpy and Pillow.

Shape legend: B samples, N cameras.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pi0.card import Resize
from pi0.records import ImageEncoding, Observation


def encode_observation(observation: Observation, encoding: ImageEncoding) -> Observation:
    """Return an observation whose images are as the network reads them."""
    images = observation.images
    if encoding.rotate_180:
        images = turned(images)
    encoded = resize_with_pad(images[None], encoding.size, "openpi")[0]
    return Observation(images=encoded, proprio=observation.proprio, encoding=encoding)


def as_rendered(observation: Observation, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Return the images the way up that LIBERO renders them, [N, H, W, 3].

    Args:
        observation: Encoded or not.
        size: Height and width to enlarge encoded images to; None leaves their size.
    """
    images, encoding = observation.images, observation.encoding
    if encoding is None:
        return images
    images = turned(images) if encoding.rotate_180 else images
    if size is None or size == images.shape[1:3]:
        return images
    return np.stack([_antialiased(image, *size) for image in images])


def turned(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images [..., H, W, 3] turned by 180 degrees."""
    return images[..., ::-1, ::-1, :]


def resize_with_pad(
    images: NDArray[np.uint8], size: int, method: Resize
) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Fit images [B, N, H, W, 3] into ``size`` x ``size``, centered, with black bars."""
    height, width = images.shape[2:4]
    if (height, width) == (size, size):
        return np.ascontiguousarray(images)
    ratio = max(width / size, height / size)
    new_height, new_width = int(height / ratio), int(width / ratio)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    shrink = _antialiased if method == "openpi" else _bilinear
    shape = (*images.shape[:2], size, size, 3)
    result: NDArray[Any] = np.zeros(shape, np.uint8 if method == "openpi" else np.float32)
    for sample, camera in np.ndindex(*images.shape[:2]):
        small = shrink(images[sample, camera], new_height, new_width)
        result[sample, camera, top : top + new_height, left : left + new_width] = small
    return result


def _antialiased(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return openpi's resize: Pillow's bilinear filter, which averages what it skips."""
    pillow = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(pillow.resize((width, height), resample=Image.Resampling.BILINEAR))


def _bilinear(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """Return LeRobot's resize: torch's bilinear interpolation without antialiasing."""
    upper, lower, down = _neighbors(image.shape[0], height)
    left, right, across = _neighbors(image.shape[1], width)
    samples = image[upper] * (1 - down)[:, None, None] + image[lower] * down[:, None, None]
    across = across[:, None]
    return (samples[:, left] * (1 - across) + samples[:, right] * across).astype(np.float32)


def _neighbors(
    old: int, new: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return, for each target pixel, its two source pixels and the weight of the second."""
    # single precision, as torch: positions of pixels of a few hundred differ by 1e-5 otherwise
    center = np.float32(old / new) * (np.arange(new, dtype=np.float32) + 0.5) - 0.5
    center = np.maximum(center, 0.0, dtype=np.float32)
    first = np.floor(center)
    second = np.minimum(first + 1, old - 1)
    return first.astype(np.int64), second.astype(np.int64), center - first
