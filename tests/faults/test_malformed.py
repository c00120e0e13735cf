"""What a corrupted worker sends is never taken for a reply."""

import socket
from contextlib import suppress

import numpy as np
import pytest

from pi0.ript.env.pool.messages import Channel, MalformedMessageError
from pi0.ript.env.pool.wire import Request, unpack_reply
from pi0.ript.faults.inject import malformed_bytes
from tests.env.toys import SPEC

RESTORE = Request(worker_slot=0, work={"restore": 1})


def read_nothing(*_):
    pytest.fail("images were read for a malformed reply")


def is_reply(data):
    """Read as the pool does; return whether the bytes pass for the reply to a restore."""
    ours, theirs = socket.socketpair()
    with Channel(ours) as channel, theirs:
        theirs.sendall(data)
        message = channel.take()
        if message is None:
            return False  # half a message; the time limit ends the wait for the rest
        if message[0] != "reply":
            raise MalformedMessageError(message[0])
        unpack_reply(message[1:], RESTORE, SPEC, read_nothing, read_nothing)
        return True


@pytest.mark.parametrize("seed", range(50))
def test_malformed_bytes_are_refused_or_wait_for_a_rest_that_is_never_sent(seed):
    with suppress(MalformedMessageError):
        assert not is_reply(malformed_bytes(np.random.default_rng(seed)))
