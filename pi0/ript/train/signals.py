"""Stopping a program from outside: Ctrl-C (SIGINT) and SIGTERM.

The first signal is an exception in the main thread, so that every ``with`` and ``finally`` block runs; the
second ends the process at once. Simulator processes notice that it has gone.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption(KeyboardInterrupt):
    """A signal asked the program to stop; the text says where it stands and how to go on.

    A ``KeyboardInterrupt`` also for SIGTERM: libraries let it pass and clean up after themselves.
    """

    def __init__(self, number: int, text: str = "") -> None:
        """Take the signal's number and what the user should know."""
        super().__init__(text)
        self.number = number
        self.text = text

    @property
    def status(self) -> int:
        """Return the exit status, as shells count it: 130 or 143."""
        return 128 + self.number

    def __str__(self) -> str:
        name = signal.Signals(self.number).name
        return f"stopped by {name}; {self.text}" if self.text else f"stopped by {name}"


class StopHandler:
    """Handles both signals and remembers the first."""

    def __init__(self) -> None:
        """Begin without a signal."""
        self.received: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal.

        Raises:
            Interruption: It is the first.
        """
        del frame
        if self.received is not None:
            _leave_at_once(number)
        self.received = number
        raise Interruption(number)


@contextmanager
def stop_signals() -> Iterator[None]:
    """Turn the signals into ``Interruption`` inside the block; main thread only."""
    handler = StopHandler()
    earlier = {number: signal.signal(number, handler) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, what in earlier.items():
            # A program that was stopped is on its way out: what comes now ends it without a word.
            signal.signal(number, signal.SIG_DFL if handler.received else what)


def raise_if_stopped() -> None:
    """Raise ``Interruption`` if a signal has come whose exception was lost.

    Python drops exceptions in callbacks that C code makes, such as destructors.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if isinstance(handler, StopHandler) and handler.received is not None:
        raise Interruption(handler.received)


def _leave_at_once(number: int) -> None:
    name = signal.Signals(number).name
    # The file descriptor, not the buffered object, which the first signal may have found locked.
    os.write(
        sys.__stderr__.fileno() if sys.__stderr__ else 2,
        f"error: ended at once by {name}\n".encode(),
    )
    os._exit(128 + number)
