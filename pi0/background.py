"""Work in a thread that never keeps the program from ending."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def in_background(compute: Callable[[], T]) -> "Future[T]":
    """Start a computation and return at once; ``result()`` waits for it and raises what it raised.

    Not a pool of the standard library: the interpreter waits for the threads of those when it ends.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(compute())
        except BaseException as error:  # noqa: BLE001 - raised where the result is wanted
            future.set_exception(error)

    Thread(target=run, name="background", daemon=True).start()
    return future
