"""Messages between the program and its simulator processes: msgpack, so nothing is ever unpickled.

A message is a packed tuple whose first entry names its kind. It travels in a frame: its length and its CRC-32
(4 bytes each, big-endian), then the message. A library that writes into the socket by mistake shifts or
overwrites bytes, and what is left may still be a tuple; the checksum shows that it is not what was sent.
"""

import select
import socket
import struct
import time
import zlib
from collections.abc import Sequence
from typing import Any, Self

import msgpack
import numpy as np

MAX_MESSAGE_BYTES = 2**20  # images travel through shared memory; the rest is small
READ_BYTES = 2**16
HEADER = struct.Struct(">II")


class MalformedMessageError(ValueError):
    """A message that the other side cannot have sent."""


class Channel:
    """One end of a socket pair; only ``receive`` waits for the rest of a message."""

    def __init__(self, end: socket.socket) -> None:
        """Take a connected stream socket, which this object closes."""
        end.settimeout(0.0)
        self._end = end
        self._arrived = bytearray()

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._end.fileno()

    def send(self, message: tuple[Any, ...], timeout_s: float | None = None) -> None:
        """Send a tuple of numbers, strings, bytes and such tuples.

        Raises:
            ConnectionError: The other side has ended.
            TimeoutError: It does not read; the channel cannot be used any more.
        """
        packed = msgpack.packb(message, default=_plain_number)
        assert packed is not None
        assert len(packed) <= MAX_MESSAGE_BYTES, f"a message of {len(packed)} bytes"
        rest = memoryview(frame(packed))
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while rest:
            try:
                rest = rest[self._end.send(rest) :]
            except BlockingIOError:
                self._until(select.POLLOUT, deadline)

    def receive(self, timeout_s: float | None = None) -> tuple[Any, ...]:
        """Wait for the next message.

        Raises:
            EOFError: The other side has ended.
            MalformedMessageError: What arrived is not a message.
            TimeoutError: No whole message arrived in time.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (message := self.take()) is None:
            self._until(select.POLLIN, deadline)
        return message

    def wait(self, timeout_s: float) -> bool:
        """Wait until something has arrived or the other side has ended; return whether it has."""
        return bool(wait_for_any([self], timeout_s))

    def take(self) -> tuple[Any, ...] | None:
        """Return the next message if it has arrived completely, else None.

        Raises:
            EOFError: The other side has ended and all its whole messages have been taken.
            MalformedMessageError: What arrived is not a message.
        """
        message = self._next()
        while message is None:
            try:
                data = self._end.recv(READ_BYTES)
            except BlockingIOError:
                return None
            except ConnectionError:
                data = b""
            if not data:
                raise EOFError
            self._arrived += data
            message = self._next()
        return message

    def close(self) -> None:
        """Close the socket; safe to call twice."""
        self._end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self) -> tuple[Any, ...] | None:
        if len(self._arrived) < HEADER.size:
            return None
        length, checksum = HEADER.unpack_from(self._arrived)
        if length > MAX_MESSAGE_BYTES:
            raise MalformedMessageError(f"a message of {length} bytes")
        end = HEADER.size + length
        if len(self._arrived) < end:
            return None
        packed = bytes(self._arrived[HEADER.size : end])
        del self._arrived[:end]
        if zlib.crc32(packed) != checksum:
            raise MalformedMessageError("a message that is not what was sent")
        return unpack(packed)

    def _until(self, event: int, deadline: float | None) -> None:
        poll = select.poll()
        poll.register(self._end, event)
        left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not poll.poll(None if left_s is None else 1000 * left_s):
            raise TimeoutError("the other side does not respond")


def wait_for_any(channels: Sequence[Channel], timeout_s: float) -> list[Channel]:
    """Return the channels at which something has arrived, or whose other side has ended; wait for one."""
    poll = select.poll()
    by_number = {channel.fileno(): channel for channel in channels}
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(1000 * timeout_s)]


def frame(packed: bytes) -> bytes:
    """Return a packed message as it travels."""
    return HEADER.pack(len(packed), zlib.crc32(packed)) + packed


def unpack(packed: bytes) -> tuple[Any, ...]:
    """Return a packed message.

    Raises:
        MalformedMessageError: The bytes are not a tuple that begins with the name of its kind.
    """
    try:
        message = msgpack.unpackb(packed, use_list=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise MalformedMessageError(f"no msgpack: {error}") from None
    if not (isinstance(message, tuple) and message and isinstance(message[0], str)):
        raise MalformedMessageError("a message without a kind")
    return message


def _plain_number(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be sent to another process")
