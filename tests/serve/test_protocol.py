import random

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi0.ript.serve.protocol import MAX_ITEMS, BadRequestError, decode, encode
from pi0.ript.serve.requests import read_request
from tests.policy_parts import raises_one_line
from tests.serve.servers import CAMERAS, request_values

NUM_MALFORMED = 10_000


def array_frame(dtype="|u1", data=b"\0\0\0\0", shape=(2, 2), **more):
    """One array as a client writes it; every part may be wrong."""
    parts = {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape}
    return msgpack.packb({"x": parts | {k.encode(): v for k, v in more.items()}})


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", ">f4", "float64", "bool"])
def test_arrays_of_numbers_come_back_as_they_were_sent(dtype):
    sent = np.arange(12).reshape(3, 2, 2).astype(dtype)
    (received,) = decode(encode({"x": sent})).values()
    assert received.dtype == sent.dtype
    assert np.array_equal(received, sent)


def test_plain_values_and_numpy_scalars_come_back():
    values = {"text": "open", "number": 3, "share": 0.5, "none": None, "list": [1, 2]}
    assert decode(encode(values)) == values
    scalar = {b"__npgeneric__": True, b"data": 7, b"dtype": "<i8"}
    assert decode(msgpack.packb({"seed": scalar})) == {"seed": 7}


@pytest.mark.parametrize(
    ("frame", "what"),
    [
        # reading an array of objects made of a stranger's bytes ends the process
        pytest.param(array_frame("O", bytes(8), (1,)), "'O'", id="objects"),
        pytest.param(array_frame("|O", bytes(8), (1,)), "'|O'", id="objects-2"),
        pytest.param(array_frame("|V4"), "'|V4'", id="void"),
        pytest.param(array_frame("<c8", bytes(8), (1,)), "'<c8'", id="complex"),
        pytest.param(array_frame("<M8[s]", bytes(8), (1,)), "'<M8[s]'", id="time"),
        pytest.param(array_frame("<U1"), "'<U1'", id="text"),
        pytest.param(array_frame("u1,O"), "'u1,O'", id="record"),
        pytest.param(array_frame(["u1"]), "['u1']", id="list-of-types"),
        pytest.param(array_frame(None), "None", id="no-type"),
        pytest.param(array_frame(shape=(2, 3)), "has 6 bytes, got 4", id="too-few-bytes"),
        pytest.param(array_frame(shape=(2,)), "has 2 bytes, got 4", id="too-many-bytes"),
        pytest.param(array_frame(shape=(-2, -2)), "positive whole numbers", id="negative"),
        pytest.param(array_frame(shape=(0, 2), data=b""), "positive", id="empty"),
        pytest.param(array_frame(shape=(2**62, 4)), "bytes, got 4", id="huge"),
        pytest.param(array_frame(shape=(True, 4)), "whole numbers", id="boolean-axis"),
        pytest.param(array_frame(shape=(1, 1, 1, 2, 2)), "at most 4", id="axes"),
        pytest.param(array_frame(shape=None), "the shape", id="no-shape"),
        pytest.param(array_frame(data="text"), "data as bytes", id="text-data"),
        pytest.param(msgpack.packb([1]), "a map from names", id="list"),
        pytest.param(msgpack.packb({b"x": 1}), "a map from names", id="bytes-as-name"),
        pytest.param(msgpack.packb({1: 1}), "no msgpack that is read", id="number-as-name"),
        pytest.param(msgpack.packb({"x": msgpack.ExtType(5, b"x")}), "extension 5", id="extension"),
        pytest.param(msgpack.packb({"x": msgpack.Timestamp(1)}), "", id="time-extension"),
        pytest.param(msgpack.packb({"x": "a" * 5000}), "max_str_len", id="long-text"),
        pytest.param(msgpack.packb({"x": [0] * 65}), "max_array_len", id="long-list"),
        pytest.param(b"", "no msgpack", id="nothing"),
        pytest.param(b"\xc1", "no msgpack", id="never-used-byte"),
        pytest.param(b"\x81\xa1x", "no msgpack", id="half-a-map"),
        pytest.param(b"\x81" * 2000, "no msgpack", id="deep"),
        pytest.param(msgpack.packb({"x": 1}) + b"\0", "no msgpack", id="more-than-one"),
        pytest.param("{}", "one binary message", id="text-frame"),
    ],
)
def test_what_is_not_on_the_list_is_refused_in_one_line(frame, what):
    with pytest.raises(BadRequestError) as error:
        read_request(decode(frame), CAMERAS, 0)
    assert raises_one_line(error.value, what)


def test_a_frame_of_many_empty_lists_is_refused_before_it_fills_the_memory():
    nested: list = []
    for _ in range(3):
        nested = [nested] * MAX_ITEMS  # 64**3 lists in 0.3 MB
    with pytest.raises(BadRequestError, match="at most 64 maps and lists"):
        decode(msgpack.packb({"x": nested}))


words = st.sampled_from(["", "open", "two\nlines", "x" * 1001])
leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | words
trees = st.recursive(
    leaves | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(words, inner, max_size=3),
    max_leaves=9,
)


@given(st.dictionaries(st.sampled_from([*request_values(), "seed", "x"]), trees))
def test_any_value_in_any_place_is_a_request_or_an_error_of_one_line(values):
    assert_read_or_refused(msgpack.packb(values))


def test_ten_thousand_damaged_requests_are_read_or_refused_in_one_line():
    rng = random.Random(0)
    whole = encode(request_values(size=16) | {"seed": 3})
    num_refused = sum(assert_read_or_refused(damaged(whole, rng)) for _ in range(NUM_MALFORMED))
    assert num_refused > NUM_MALFORMED // 2


def damaged(whole: bytes, rng: random.Random) -> bytes:
    """Return a request with flipped, lost, repeated or invented bytes, most of them outside of images."""
    data = bytearray(whole)
    for _ in range(rng.randint(1, 4)):
        # names, types and shapes lie in the first 20, around the middle and in the last 200 bytes
        middle = len(data) // 2
        low, high = rng.choice([(0, 40), (middle - 80, middle + 80), (len(data) - 220, len(data))])
        at = rng.randrange(max(0, low), max(1, min(high, len(data))))
        kind = rng.randrange(4)
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            del data[at : at + rng.randint(1, 50)]
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.randint(1, 9))
        else:
            data[at:at] = data[at : at + rng.randint(1, 60)]
        if not data:
            break
    return bytes(data)


def assert_read_or_refused(frame: bytes) -> bool:
    """Return whether a frame was refused."""
    try:
        read_request(decode(frame), CAMERAS, 0)
    except BadRequestError as error:
        assert raises_one_line(error)
        assert len(str(error)) < 600
        return True
    return False
