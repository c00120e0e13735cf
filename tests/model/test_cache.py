"""Passes over the prefix, and caches of several of them."""

import pytest
import torch

from pi0.model.cache import PrefixCache, join_caches, sample_passes, trimmed_length


def valid(samples, length, lengths=None):
    lengths = torch.tensor(lengths or [length] * samples)
    return torch.arange(length) < lengths[:, None]


@pytest.mark.parametrize(
    ("samples", "length", "sizes"),
    [
        (8, 560, [1] * 8),  # 1024 // 560 is one sample per pass
        (8, 52, [8]),  # 19 samples would fit
        (32, 52, [16, 16]),  # the largest divisor of 32 up to 19
        (31, 52, [1] * 31),  # 31 has no divisor but itself and 1
        (1, 4000, [1]),
    ],
)
def test_a_pass_takes_an_equal_share_of_the_samples(samples, length, sizes):
    passes = sample_passes(valid(samples, length))
    assert [part.stop - part.start for part in passes] == sizes
    assert passes[0].start == 0
    assert passes[-1].stop == samples


def test_padding_is_left_out_where_a_sample_is_alone():
    assert trimmed_length(valid(1, 10, [7])) == 7
    assert trimmed_length(valid(2, 10, [7, 5])) == 10


def test_a_hole_in_the_middle_is_not_padding():
    is_valid = torch.tensor([[True, False, True, False]])
    assert trimmed_length(is_valid) == 3


def make_cache(samples, seed):
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(samples, 5, 4, generator=generator) for _ in range(4)]
    return PrefixCache(keys=(*tensors[:2],), values=(*tensors[2:],), is_valid=valid(samples, 5))


def test_joined_caches_hold_the_samples_in_order():
    first, second = make_cache(2, 0), make_cache(3, 1)
    joined = join_caches([first, second])
    assert len(joined) == 5
    assert torch.equal(joined.select(slice(2, 5)).values[1], second.values[1])
    assert joined.num_bytes == 4 * 5 * 5 * 4 * 4  # tensors, samples, tokens, width, bytes
