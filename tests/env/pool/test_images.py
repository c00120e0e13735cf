"""Images arrive bit for bit, those of neighboring slots do not overlap, and videos leave no memory behind."""

import mmap
import os

import numpy as np
import pytest

from pi0.records import ObservationSpec
from pi0.ript.env.pool.images import (
    MAX_RECORDED_STEPS,
    SharedImages,
    check_video,
    image_bytes,
    pack_images,
    slot_bytes,
    unpack_images,
)
from pi0.ript.env.pool.messages import MalformedMessageError
from pi0.ript.packed_frames import PackedFrames

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
def test_images_come_back_bit_for_bit_and_cannot_be_written(images, compress):
    packed = pack_images(images, compress=compress)
    again = unpack_images(packed, SHAPE, compressed=compress)

    np.testing.assert_array_equal(again, images)
    assert again.dtype == np.uint8
    assert not again.flags.writeable


def test_neighboring_pixels_that_change_evenly_compress_well():
    # A ramp: every pixel is 3 more than its left neighbor, modulo 256, so that all differences agree.
    ramp = np.tile((3 * np.arange(96)).astype(np.uint8)[None, None, :, None], (1, 96, 1, 3))

    assert len(pack_images(ramp, compress=True)) < ramp.nbytes / 50


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: b"",
        lambda packed: packed[:-1],
        lambda packed: b"\x00" + packed[1:],
        lambda packed: pack_images(np.zeros((2, 6, 6, 3), np.uint8), compress=True),
    ],
    ids=["nothing", "cut", "flipped", "of-another-size"],
)
def test_bytes_that_are_not_images_are_refused(damage, compressed):
    packed = pack_images(np.full(SHAPE, 7, np.uint8), compress=compressed)
    damaged = damage(packed)
    if not compressed and len(damaged) == len(packed):
        return  # any byte is a pixel

    with pytest.raises(ValueError, match="images"):
        unpack_images(damaged, SHAPE, compressed=compressed)


def test_a_few_bytes_never_unpack_to_more_than_the_images_take():
    bomb = pack_images(np.zeros((1, 5000, 5000, 3), np.uint8), compress=True)

    with pytest.raises(ValueError, match="181 bytes of images, expected 180"):
        unpack_images(bomb, SHAPE, compressed=True)


SPEC = ObservationSpec(cameras=("agentview", "frontview"), height=31, width=17)
NUM_SLOTS = 3


@pytest.fixture
def memory():
    """Anonymous memory of three slots, as a file descriptor and as both sides map it."""
    number = os.memfd_create("test")
    os.ftruncate(number, NUM_SLOTS * slot_bytes(SPEC))
    size = NUM_SLOTS * slot_bytes(SPEC)
    with mmap.mmap(number, size) as worker, mmap.mmap(number, size) as program:
        yield number, SharedImages(SPEC, worker), SharedImages(SPEC, program)
    os.close(number)


def resident_bytes(number):
    return 512 * os.fstat(number).st_blocks


def noise(*shape):
    return np.random.default_rng(shape[0]).integers(0, 256, shape).astype(np.uint8)


def longest_video():
    """What compresses worst, with as many steps as a request may have."""
    return PackedFrames.pack(noise(MAX_RECORDED_STEPS, 2, 31, 17, 3)).packed


def test_every_slot_keeps_its_images_and_its_longest_video(memory):
    _, worker, program = memory
    images = [noise(2, 31, 17, 3) + np.uint8(slot) for slot in range(NUM_SLOTS)]
    video = longest_video()
    assert len(video) > MAX_RECORDED_STEPS * image_bytes(SPEC)  # grown, not shrunk
    for slot in range(NUM_SLOTS):
        worker.write_images(slot, images[slot])
        worker.write_frames(slot, video + bytes([slot]))

    for slot in range(NUM_SLOTS):
        np.testing.assert_array_equal(program.read_images(slot), images[slot])
        assert program.take_frames(slot, len(video) + 1) == video + bytes([slot])


def test_a_video_takes_memory_only_until_it_is_taken(memory):
    number, worker, program = memory
    assert resident_bytes(number) == 0
    worker.write_images(1, noise(2, 31, 17, 3))
    before = resident_bytes(number)
    video = longest_video()

    worker.write_frames(1, video)
    assert resident_bytes(number) >= before + len(video)
    program.take_frames(1, len(video))

    assert resident_bytes(number) == before
    np.testing.assert_array_equal(program.read_images(1), noise(2, 31, 17, 3))


def test_a_video_longer_than_any_is_malformed(memory):
    _, _, program = memory
    with pytest.raises(MalformedMessageError, match="a video of"):
        program.take_frames(0, slot_bytes(SPEC))


def test_the_error_of_a_request_too_long_to_be_recorded_names_what_to_lower():
    check_video(MAX_RECORDED_STEPS)
    with pytest.raises(ValueError, match=r"got 129; lower policy\.overrides\.execute_steps"):
        check_video(MAX_RECORDED_STEPS + 1)
