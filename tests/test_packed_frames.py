"""Packed frames keep every bit of their images and never unpack to anything else."""

import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest

from pi0.ript.packed_frames import PackedFrames

SHAPE = (4, 2, 6, 5, 3)
NOISE = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)


@pytest.mark.parametrize(
    "images",
    [np.zeros(SHAPE, np.uint8), np.full(SHAPE, 255, np.uint8), NOISE, NOISE[:1]],
    ids=["black", "white", "noise", "one step"],
)
def test_images_come_back_bit_for_bit(images):
    frames = PackedFrames.pack(images)

    assert len(frames) == len(images)
    np.testing.assert_array_equal(frames.unpack(), images)
    assert frames.unpack().dtype == np.uint8


def test_a_still_scene_takes_little_more_than_one_image():
    still = np.repeat(NOISE[:1], 50, axis=0)
    assert len(PackedFrames.pack(still).packed) < 2 * NOISE[:1].nbytes


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"no images",
        zlib.compress(bytes(NOISE.nbytes - 1)),
        zlib.compress(bytes(NOISE.nbytes + 1)),
        zlib.compress(bytes(NOISE.nbytes))[:-1],
        zlib.compress(bytes(NOISE.nbytes)) + b"more",
    ],
    ids=["nothing", "noise", "a byte too few", "a byte too many", "cut off", "bytes after the end"],
)
def test_anything_else_than_images_of_the_shape_is_refused(packed):
    frames = replace(PackedFrames.pack(NOISE), packed=packed)
    for read in (frames.check, frames.unpack):
        with pytest.raises(ValueError, match="images"):
            read()


def test_a_small_message_cannot_unpack_to_a_large_one():
    bomb = replace(PackedFrames.pack(NOISE), packed=zlib.compress(bytes(10**8)))

    tracemalloc.start()
    with pytest.raises(ValueError, match="images"):
        bomb.check()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert most < 10**6
