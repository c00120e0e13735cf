"""What may travel between the program and its simulator processes, and what it arrives as."""

from multiprocessing import Pipe

import numpy as np
import pytest

from pi0.ript.env.messages import receive, send


def through(message):
    ours, theirs = Pipe()
    with ours, theirs:
        send(ours, message)
        return receive(theirs)


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

    (data,) = through((state.tobytes(),))

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
    (value,) = through((scalar,))

    assert value == plain
    assert type(value) is type(plain)


@pytest.mark.parametrize("value", [np.zeros(2), {1, 2}, 1j, object()])
def test_anything_else_is_refused_before_it_is_sent(value):
    with pytest.raises(TypeError, match=f"{type(value).__name__} cannot be sent"):
        through((value,))


def test_a_closed_other_side_is_the_end():
    ours, theirs = Pipe()
    theirs.close()
    with ours, pytest.raises(EOFError):
        receive(ours)
