"""openpi's websocket frames: msgpack with arrays, read by an allow-list.

openpi's own reader makes an array of whatever type a frame names, and an array of objects made of a stranger's
bytes is read as memory addresses. Here only numbers become arrays, and only where bytes and shape agree.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, TypeGuard

import msgpack
import numpy as np
from numpy.typing import NDArray

MAX_FRAME_BYTES = 2**24  # two images of 224 pixels take 0.3 MB, two of 360 as float64 6 MB
MAX_TEXT_BYTES = 4096
MAX_ITEMS = 64  # of a map or list, and maps and lists of a frame; a request has four
MAX_AXES = 4
DTYPE = re.compile(r"[<>|=]?(?:[?]|b1|[iu][1248]|f[248])")
ARRAY, SCALAR = b"__ndarray__", b"__npgeneric__"


class BadRequestError(ValueError):
    """What a client sent cannot be answered; the text is one line for the client."""


def encode(value: Mapping[str, Any]) -> bytes:
    """Return a frame; arrays and numpy's numbers are written as openpi's client reads them."""
    packed = msgpack.packb(value, default=_plain)
    assert packed is not None
    return packed


def decode(frame: bytes | str) -> dict[str, Any]:
    """Return the map that a frame holds: strings, numbers, None, lists, maps and arrays of numbers.

    Raises:
        BadRequestError: It holds anything else, or too much.
    """
    if isinstance(frame, str):
        raise BadRequestError("a request is one binary message (msgpack), got text")
    reader = _Reader()
    try:
        value = msgpack.unpackb(
            frame,
            object_hook=reader.read_map,
            list_hook=reader.read_list,
            ext_hook=_refuse_extension,
            max_str_len=MAX_TEXT_BYTES,
            max_bin_len=MAX_FRAME_BYTES,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
        )
    except BadRequestError:
        raise
    except (ValueError, msgpack.UnpackException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadRequestError(f"the request is no msgpack that is read here: {reason}") from None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise BadRequestError("a request is a map from names to values")
    return value


class _Reader:
    """Counts the maps and lists of one frame: a megabyte of empty ones would fill the memory."""

    def __init__(self) -> None:
        self._count = 0

    def read_map(self, value: dict[Any, Any]) -> Any:
        self._add()
        if ARRAY in value:
            return read_array(value)
        return read_scalar(value) if SCALAR in value else value

    def read_list(self, value: list[Any]) -> list[Any]:
        self._add()
        return value

    def _add(self) -> None:
        self._count += 1
        if self._count > MAX_ITEMS:
            raise BadRequestError(f"a request holds at most {MAX_ITEMS} maps and lists")


def read_array(value: Mapping[Any, Any]) -> NDArray[Any]:
    """Return the array that a map describes; it shares the frame's bytes and cannot be written.

    Raises:
        BadRequestError: It is not one of numbers, or its bytes are not as many as its shape says.
    """
    dtype, shape, data = _dtype(value), value.get(b"shape"), value.get(b"data")
    if not isinstance(data, bytes):
        raise BadRequestError("an array needs its data as bytes")
    if not _is_shape(shape):
        raise BadRequestError(
            f"the shape of an array is a list of at most {MAX_AXES} positive whole numbers"
        )
    needed = math.prod(shape) * dtype.itemsize
    if needed != len(data):
        raise BadRequestError(
            f"an array of {dtype} with shape {shape} has {needed} bytes, got {len(data)}"
        )
    return np.frombuffer(data, dtype).reshape(shape)


def read_scalar(value: Mapping[Any, Any]) -> int | float | bool:
    """Return the number that a map describes as one of numpy.

    Raises:
        BadRequestError: It is no number.
    """
    _dtype(value)
    number = value.get(b"data")
    if not isinstance(number, int | float):
        raise BadRequestError(f"a numpy scalar needs a number, got {type(number).__name__}")
    return number


def _is_shape(shape: object) -> TypeGuard[list[int]]:
    return (
        isinstance(shape, list)
        and len(shape) <= MAX_AXES
        and all(type(axis) is int and axis > 0 for axis in shape)
    )


def _dtype(value: Mapping[Any, Any]) -> np.dtype[Any]:
    name = value.get(b"dtype")
    text = name.decode("ascii", "replace") if isinstance(name, bytes) else name
    if not isinstance(text, str) or not DTYPE.fullmatch(text):
        raise BadRequestError(
            f"arrays hold whole numbers, floats of up to 64 bits or booleans, got dtype {text!r:.40}"
        )
    return np.dtype(text)


def _refuse_extension(code: int, data: bytes) -> None:
    raise BadRequestError(f"msgpack extension {code} ({len(data)} bytes) is not read here")


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return {
            ARRAY: True,
            b"data": value.tobytes(),
            b"dtype": value.dtype.str,
            b"shape": value.shape,
        }
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be sent to a client")
