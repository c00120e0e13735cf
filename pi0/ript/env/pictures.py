"""Pictures as bytes: raw, or compressed without losing a bit."""

import math
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
    """Return the pictures of ``pack_pictures``, uint8 [N, height, width, 3], read-only.

    Raises:
        ValueError: The bytes are no pictures of that shape.
    """
    num_bytes = math.prod(shape)
    raw = _decompress(packed, num_bytes) if compressed else packed
    if len(raw) != num_bytes:
        raise ValueError(f"{len(raw)} bytes of pictures, expected {num_bytes}")
    pixels = np.frombuffer(raw, dtype=np.uint8).reshape(shape)
    if not compressed:
        return pixels
    images = np.cumsum(pixels, axis=2, dtype=np.uint8)
    images.flags.writeable = False
    return images


def _decompress(packed: bytes, num_bytes: int) -> bytes:
    """Return at most one byte more than is expected, however much there is."""
    reader = zlib.decompressobj()
    try:
        raw = reader.decompress(packed, num_bytes + 1)
    except zlib.error as error:
        raise ValueError(f"pictures that cannot be unpacked: {error}") from None
    if not reader.eof and len(raw) <= num_bytes:
        raise ValueError("pictures that end too early")
    return raw
