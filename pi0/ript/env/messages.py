"""Messages between the program and its simulator processes: msgpack, so nothing is ever unpickled."""

from multiprocessing.connection import Connection
from typing import Any

import msgpack
import numpy as np


def send(connection: Connection, message: tuple[Any, ...]) -> None:
    """Send a tuple of numbers, strings, bytes and such tuples."""
    packed = msgpack.packb(message, default=_plain_number)
    assert packed is not None
    connection.send_bytes(packed)


def receive(connection: Connection) -> tuple[Any, ...]:
    """Wait for the next message.

    Raises:
        EOFError: The other side is gone.
    """
    return msgpack.unpackb(connection.recv_bytes(), use_list=False)


def _plain_number(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be sent to another process")
