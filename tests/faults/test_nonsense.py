"""What a corrupted worker sends is never taken for an answer."""

import socket
from contextlib import suppress

import numpy as np
import pytest

from pi0.ript.env.pool.messages import Channel, MalformedMessageError
from pi0.ript.env.pool.wire import Request, unpack_reply
from pi0.ript.faults.inject import nonsense

RESTORE = Request(place=0, work={"restore": 1})


def believe(data):
    """Read as the pool does; return whether the bytes pass for the answer to a restore."""
    ours, theirs = socket.socketpair()
    with Channel(ours) as channel, theirs:
        theirs.sendall(data)
        message = channel.take()
        if message is None:
            return False  # half a message; the time limit ends the wait for the rest
        if message[0] != "reply":
            raise MalformedMessageError(message[0])
        RESTORE.check(unpack_reply(message[1:]))
        return True


@pytest.mark.parametrize("seed", range(50))
def test_nonsense_is_refused_or_waits_for_a_rest_that_never_comes(seed):
    with suppress(MalformedMessageError):
        assert not believe(nonsense(np.random.default_rng(seed)))
