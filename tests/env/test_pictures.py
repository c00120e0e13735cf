"""Pictures keep every bit on their way."""

import numpy as np
import pytest

from pi0.ript.env.pictures import pack_pictures, unpack_pictures

SHAPE = (2, 6, 5, 3)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    "images",
    [
        np.zeros(SHAPE, np.uint8),
        np.full(SHAPE, 255, np.uint8),
        np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8),
    ],
    ids=["black", "white", "noise"],
)
def test_pictures_come_back_bit_for_bit_and_cannot_be_written(images, compress):
    packed = pack_pictures(images, compress=compress)
    again = unpack_pictures(packed, SHAPE, compressed=compress)

    np.testing.assert_array_equal(again, images)
    assert again.dtype == np.uint8
    assert not again.flags.writeable


def test_neighbours_that_change_evenly_compress_well():
    # A ramp: every pixel is 3 more than its left neighbour, modulo 256, so that all differences agree.
    ramp = np.tile((3 * np.arange(96)).astype(np.uint8)[None, None, :, None], (1, 96, 1, 3))

    assert len(pack_pictures(ramp, compress=True)) < ramp.nbytes / 50


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda packed: b"",
        lambda packed: packed[:-1],
        lambda packed: b"\x00" + packed[1:],
        lambda packed: pack_pictures(np.zeros((2, 6, 6, 3), np.uint8), compress=True),
    ],
    ids=["nothing", "cut", "flipped", "of-another-size"],
)
def test_bytes_that_are_no_pictures_are_refused(spoil, compressed):
    packed = pack_pictures(np.full(SHAPE, 7, np.uint8), compress=compressed)
    spoilt = spoil(packed)
    if not compressed and len(spoilt) == len(packed):
        return  # any byte is a pixel

    with pytest.raises(ValueError, match="pictures"):
        unpack_pictures(spoilt, SHAPE, compressed=compressed)


def test_a_few_bytes_never_become_more_than_the_pictures_take():
    bomb = pack_pictures(np.zeros((1, 5000, 5000, 3), np.uint8), compress=True)

    with pytest.raises(ValueError, match="181 bytes of pictures, expected 180"):
        unpack_pictures(bomb, SHAPE, compressed=True)
