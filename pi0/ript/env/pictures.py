"""Pictures as bytes: raw, or compressed without losing a bit."""

import zlib

import numpy as np
from numpy.typing import NDArray

FASTEST = 1


def pack_pictures(images: NDArray[np.uint8], *, compress: bool) -> bytes:
    """Return uint8 [N, height, width, 3] as bytes; ``unpack_pictures`` gives the same pixels back."""
    if not compress:
        return images.tobytes()
    # Neighbouring pixels differ little, so their differences (modulo 256) are mostly small numbers.
    steps = images.copy()
    steps[:, :, 1:] -= images[:, :, :-1]
    return zlib.compress(steps.tobytes(), FASTEST)


def unpack_pictures(
    packed: bytes, shape: tuple[int, int, int, int], *, compressed: bool
) -> NDArray[np.uint8]:
    """Return the pictures of ``pack_pictures``, uint8 [N, height, width, 3], read-only."""
    if not compressed:
        return np.frombuffer(packed, dtype=np.uint8).reshape(shape)
    steps = np.frombuffer(zlib.decompress(packed), dtype=np.uint8).reshape(shape)
    images = np.cumsum(steps, axis=2, dtype=np.uint8)
    images.flags.writeable = False
    return images
