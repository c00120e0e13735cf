"""What may be sent between the program and its simulator processes, and what it arrives as."""

import socket

import numpy as np
import pytest

from pi0.ript.env.pool.messages import (
    HEADER,
    MAX_MESSAGE_BYTES,
    Channel,
    MalformedMessageError,
    frame,
)

# ["end", 1] in msgpack: an array of 2, a text of 3 letters, the number 1.
END = b"\x92\xa3end\x01"


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with Channel(ours) as channel, theirs:
        yield channel, theirs


def through(message):
    ours, theirs = socket.socketpair()
    with Channel(ours) as sender, Channel(theirs) as receiver:
        sender.send(message)
        return receiver.receive(timeout_s=5)


@pytest.mark.parametrize(
    "message",
    [
        ("stop",),
        ("restore", 0, -1, 2**63, "libero_goal", True),
        ("reply", b"\x00\xff", "", 0.1, (("render_s", 1e-9), ("physics_s", 2.0))),
        ("nested", ((), (("libero_goal", 7),), ((1, (2,)),))),
    ],
)
def test_messages_arrive_as_they_were_sent(message):
    assert through(message) == message


def test_array_bytes_arrive_bit_for_bit():
    state = np.array([0.1, -0.0, np.inf])

    _, data = through(("state", state.tobytes()))

    assert np.frombuffer(data, np.float64).tobytes() == state.tobytes()


@pytest.mark.parametrize(
    ("scalar", "plain"),
    [
        (np.int64(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.True_, True),
    ],
)
def test_numpy_scalars_arrive_as_plain_numbers(scalar, plain):
    _, value = through(("value", scalar))

    assert value == plain
    assert type(value) is type(plain)


@pytest.mark.parametrize("value", [np.zeros(2), {1, 2}, 1j, object()])
def test_anything_else_is_refused_before_it_is_sent(value):
    with pytest.raises(TypeError, match=f"{type(value).__name__} cannot be sent"):
        through(("value", value))


def test_the_messages_of_a_side_that_has_ended_come_before_the_end(ends):
    channel, other = ends
    other.sendall(frame(END))
    other.close()

    assert channel.receive() == ("end", 1)
    with pytest.raises(EOFError):
        channel.take()


def test_half_a_message_is_not_waited_for(ends):
    channel, other = ends
    other.sendall(frame(END)[:-3])

    assert channel.take() is None
    with pytest.raises(TimeoutError):
        channel.receive(timeout_s=0.05)
    other.sendall(END[-3:])
    assert channel.take() == ("end", 1)


def test_a_receiver_that_does_not_read_is_not_waited_for(ends):
    channel, _ = ends
    # Together far more than a socket buffers, so one of them does not fit.
    paddings = [("padding", bytes(2**16))] * 100

    with pytest.raises(TimeoutError, match="does not respond"):
        any(channel.send(padding, timeout_s=0.05) for padding in paddings)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(HEADER.pack(MAX_MESSAGE_BYTES + 1, 0), id="longer than any message"),
        pytest.param(frame(b"\xc1"), id="no msgpack"),
        pytest.param(frame(b""), id="nothing"),
        pytest.param(frame(b"\x01\x02"), id="two values"),
        pytest.param(frame(b"\x90"), id="an empty list"),
        pytest.param(frame(b"\x91\x05"), id="a list without a kind"),
        pytest.param(frame(b"\x91\xa1\xff"), id="a text that is not UTF-8"),
        pytest.param(frame(b"\xdd\xff\xff\xff\xff"), id="four billion values"),
    ],
)
def test_bytes_that_are_not_a_message_are_malformed(ends, data):
    channel, other = ends
    other.sendall(data)
    with pytest.raises(MalformedMessageError):
        channel.take()


@pytest.mark.parametrize("bit", range(8 * len(frame(END))))
def test_a_message_with_a_flipped_bit_is_never_returned(ends, bit):
    channel, other = ends
    flipped = bytearray(frame(END))
    flipped[bit // 8] ^= 1 << bit % 8
    other.sendall(flipped)
    other.close()
    # A length that has grown waits for bytes that are never sent.
    with pytest.raises((MalformedMessageError, EOFError)):
        channel.take()
