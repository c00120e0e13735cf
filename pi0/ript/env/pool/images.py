"""Images as bytes, raw or compressed without loss, and their layout in memory shared with workers.

Every slot has a part for the images of its observation, and behind it one for the video of a request. The
second is large only nominally: memory that was never written to takes no room, and what was read is freed.
"""

import math
import mmap
import zlib

import numpy as np
from numpy.typing import NDArray

from pi0.records import ObservationSpec
from pi0.ript.env.pool.messages import MalformedMessageError

FASTEST = 1


def pack_images(images: NDArray[np.uint8], *, compress: bool) -> bytes:
    """Return uint8 [N, height, width, 3] as bytes; ``unpack_images`` gives the same pixels back."""
    if not compress:
        return images.tobytes()
    # Neighboring pixels differ little, so their differences (modulo 256) are mostly small numbers.
    steps = images.copy()
    steps[:, :, 1:] -= images[:, :, :-1]
    return zlib.compress(steps.tobytes(), FASTEST)


def unpack_images(
    packed: bytes, shape: tuple[int, int, int, int], *, compressed: bool
) -> NDArray[np.uint8]:
    """Return the images that ``pack_images`` packed, uint8 [N, height, width, 3], read-only.

    Args:
        packed: The bytes.
        shape: N cameras, height and width in pixels, 3.
        compressed: Whether they were compressed.

    Raises:
        ValueError: The bytes are not images of that shape.
    """
    num_bytes = math.prod(shape)
    raw = _decompress(packed, num_bytes) if compressed else packed
    if len(raw) != num_bytes:
        raise ValueError(f"{len(raw)} bytes of images, expected {num_bytes}")
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
        raise ValueError(f"images that cannot be unpacked: {error}") from None
    if not reader.eof and len(raw) <= num_bytes:
        raise ValueError("images that end too early")
    return raw


MAX_RECORDED_STEPS = 128  # of one request
SLACK = 64  # bytes around compressed images


def image_bytes(spec: ObservationSpec) -> int:
    """Return how many bytes the images of an observation take."""
    return math.prod(spec.sent_shape)


def slot_bytes(spec: ObservationSpec) -> int:
    """Return how many bytes of shared memory belong to one slot, a whole number of pages."""
    return _whole_pages(image_bytes(spec)) + _frames_bytes(spec)


def check_video(num_steps: int) -> None:
    """Raise ``ValueError`` if a request has too many control steps to be recorded."""
    if num_steps > MAX_RECORDED_STEPS:
        raise ValueError(
            f"at most {MAX_RECORDED_STEPS} control steps between two observations can be recorded, got "
            f"{num_steps}; lower policy.overrides.execute_steps, or record with video.rate=decisions"
        )


class SharedImages:
    """Images and videos of all slots of a pool, as the program and its workers share them."""

    def __init__(self, spec: ObservationSpec, memory: mmap.mmap) -> None:
        """Take the memory, ``slot_bytes`` for every slot."""
        self._spec, self._memory = spec, memory

    def write_images(self, slot: int, images: NDArray[np.uint8]) -> None:
        """Store a slot's images, uint8 [N, height, width, 3], for the program to read."""
        start = slot * slot_bytes(self._spec)
        self._memory[start : start + image_bytes(self._spec)] = images.tobytes()

    def read_images(self, slot: int) -> NDArray[np.uint8]:
        """Return a copy of a slot's images, uint8 [N, height, width, 3]."""
        spec, start = self._spec, slot * slot_bytes(self._spec)
        pixels = self._memory[start : start + image_bytes(spec)]
        return np.frombuffer(pixels, dtype=np.uint8).reshape(spec.sent_shape)

    def write_frames(self, slot: int, packed: bytes) -> None:
        """Store the compressed video of a slot's request for the program to read."""
        assert len(packed) <= _frames_bytes(self._spec), f"a video of {len(packed)} bytes"
        start = self._frames_start(slot)
        self._memory[start : start + len(packed)] = packed

    def take_frames(self, slot: int, num_bytes: int) -> bytes:
        """Return a copy of the compressed video of a slot's request and free its memory.

        Raises:
            MalformedMessageError: No video can be that long.
        """
        if num_bytes > _frames_bytes(self._spec):
            raise MalformedMessageError(f"a video of {num_bytes} bytes")
        start = self._frames_start(slot)
        packed = self._memory[start : start + num_bytes]
        if num_bytes:
            self._memory.madvise(mmap.MADV_REMOVE, start, _whole_pages(num_bytes))
        return packed

    def _frames_start(self, slot: int) -> int:
        return slot * slot_bytes(self._spec) + _whole_pages(image_bytes(self._spec))


def _frames_bytes(spec: ObservationSpec) -> int:
    # What cannot be compressed grows by up to an eighth.
    return _whole_pages(MAX_RECORDED_STEPS * math.prod(spec.rendered_shape) * 9 // 8 + SLACK)


def _whole_pages(num_bytes: int) -> int:
    return -(-num_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
