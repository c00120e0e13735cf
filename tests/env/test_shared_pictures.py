"""Looks and film strips of neighbouring slots do not touch, and strips leave no memory behind."""

import mmap
import os

import numpy as np
import pytest

from pi0.records import ObservationSpec
from pi0.ript.env.messages import MalformedMessageError
from pi0.ript.env.shared_pictures import (
    MAX_FILMED_STEPS,
    SharedPictures,
    check_film,
    image_bytes,
    slot_bytes,
)
from pi0.ript.film_strip import FilmStrip

SPEC = ObservationSpec(cameras=("agentview", "frontview"), height=31, width=17)
NUM_SLOTS = 3


@pytest.fixture
def memory():
    """Anonymous memory of three slots, as a file number and as both sides map it."""
    number = os.memfd_create("test")
    os.ftruncate(number, NUM_SLOTS * slot_bytes(SPEC))
    size = NUM_SLOTS * slot_bytes(SPEC)
    with mmap.mmap(number, size) as worker, mmap.mmap(number, size) as program:
        yield number, SharedPictures(SPEC, worker), SharedPictures(SPEC, program)
    os.close(number)


def resident_bytes(number):
    return 512 * os.fstat(number).st_blocks


def noise(*shape):
    return np.random.default_rng(shape[0]).integers(0, 256, shape).astype(np.uint8)


def longest_film():
    """What compresses worst, as many steps as a command may have."""
    return FilmStrip.pack(noise(MAX_FILMED_STEPS, 2, 31, 17, 3)).packed


def test_every_slot_keeps_its_look_and_its_longest_film(memory):
    _, worker, program = memory
    looks = [noise(2, 31, 17, 3) + np.uint8(slot) for slot in range(NUM_SLOTS)]
    film = longest_film()
    assert len(film) > MAX_FILMED_STEPS * image_bytes(SPEC)  # grown, not shrunk
    for slot, look in enumerate(looks):
        worker.write_look(slot, look)
        worker.write_strip(slot, film + bytes([slot]))

    for slot, look in enumerate(looks):
        np.testing.assert_array_equal(program.read_look(slot), look)
        assert program.take_strip(slot, len(film) + 1) == film + bytes([slot])


def test_a_film_takes_memory_only_until_it_is_taken(memory):
    number, worker, program = memory
    assert resident_bytes(number) == 0
    worker.write_look(1, noise(2, 31, 17, 3))
    before = resident_bytes(number)
    film = longest_film()

    worker.write_strip(1, film)
    assert resident_bytes(number) >= before + len(film)
    program.take_strip(1, len(film))

    assert resident_bytes(number) == before
    np.testing.assert_array_equal(program.read_look(1), noise(2, 31, 17, 3))


def test_a_film_longer_than_any_is_nonsense(memory):
    _, _, program = memory
    with pytest.raises(MalformedMessageError, match="a film of"):
        program.take_strip(0, slot_bytes(SPEC))


def test_a_command_too_long_to_be_filmed_says_what_to_lower():
    check_film(MAX_FILMED_STEPS)
    with pytest.raises(ValueError, match=r"got 129; lower policy\.overrides\.execute_steps"):
        check_film(MAX_FILMED_STEPS + 1)
