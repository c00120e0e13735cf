"""Kept prefixes come back as they were put, from wherever they lie; only what was not kept is computed again."""

import numpy as np
import pytest
import torch

from pi0.model.cache import PrefixCache
from pi0.ript.learner.prefixes import PREFIX_BUDGET, KeptPrefixes, Room

NUM_SAMPLES, LAYERS, TOKENS, WIDTH = 8, 2, 3, 4
SAMPLE_BYTES = 2 * LAYERS * TOKENS * WIDTH * 4  # keys and values, float32


def prefixes_of(own_index) -> PrefixCache:
    """Sample n holds n everywhere, plus a tenth of the layer; values are negative."""
    numbers = torch.tensor(own_index, dtype=torch.float32)[:, None, None]
    keys = tuple((numbers + layer / 10).expand(-1, TOKENS, WIDTH) for layer in range(LAYERS))
    is_valid = torch.ones(len(own_index), TOKENS, dtype=torch.bool)
    is_valid[:, -1] = torch.tensor(own_index) % 2 == 0
    return PrefixCache(keys=keys, values=tuple(-key for key in keys), is_valid=is_valid)


def kept(on_device, on_host):
    room = Room(device=on_device * SAMPLE_BYTES, host=on_host * SAMPLE_BYTES)
    prefixes = KeptPrefixes(NUM_SAMPLES, prefixes_of([0]), room)
    for start in range(0, NUM_SAMPLES, 3):
        prefixes.put(start, prefixes_of(range(start, min(start + 3, NUM_SAMPLES))))
    return prefixes


@pytest.mark.parametrize(("on_device", "on_host"), [(8, 0), (5, 0), (0, 5), (4, 2), (2, 6), (0, 0)])
def test_chosen_samples_are_those_that_were_put(on_device, on_host):
    prefixes, computed = kept(on_device, on_host), []

    def compute(own_index):
        computed.extend(own_index.tolist())
        return prefixes_of(own_index)

    for chosen in ([0], [7], [3, 5, 1], [6, 0, 7, 2, 4], list(range(8))[::-1]):
        found = prefixes.select(np.array(chosen), compute)
        wanted = prefixes_of(chosen)
        for mine, theirs in zip(
            (*found.keys, *found.values, found.is_valid),
            (*wanted.keys, *wanted.values, wanted.is_valid),
            strict=True,
        ):
            assert torch.equal(mine, theirs)
    assert set(computed) == set(range(on_device + on_host, NUM_SAMPLES))


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (Room(device=0), (0, 0)),
        (Room(device=250), (2, 0)),  # two of 100 bytes
        (Room(device=250, host=99), (2, 0)),
        (Room(device=250, host=310), (2, 3)),
        (Room(device=250, host=10**9), (2, 6)),
        (Room(device=10**9, host=10**9), (8, 0)),
    ],
)
def test_the_device_comes_first_and_nothing_takes_more_than_its_room(room, expected):
    assert room.split(NUM_SAMPLES, sample_bytes=100) == expected


def test_without_a_gpu_the_room_is_the_same_on_every_machine():
    assert Room.on(torch.device("cpu")) == Room(device=PREFIX_BUDGET)


def test_what_is_kept_lies_where_it_was_allocated():
    prefixes = KeptPrefixes(NUM_SAMPLES, prefixes_of([0]), Room(device=10**6))
    places = [key.data_ptr() for key in prefixes._device.keys]
    for number in range(NUM_SAMPLES):
        prefixes.put(number, prefixes_of([number]))
    assert [key.data_ptr() for key in prefixes._device.keys] == places
