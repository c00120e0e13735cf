"""Images of consecutive control steps, small enough to keep until their video is encoded."""

import zlib
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

VideoRate = Literal["decisions", "steps"]
"""A video has the observations of the policy steps, or an image after every control step."""

FASTEST = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedFrames:
    """One image of every camera after each control step of a request, compressed without loss.

    Example: ``PackedFrames.pack(images).unpack()`` gives the images back, bit for bit.

    Attributes:
        packed: The compressed images.
        shape: Control steps, N cameras, height and width in pixels, 3.
    """

    packed: bytes
    shape: tuple[int, int, int, int, int]

    @classmethod
    def pack(cls, images: NDArray[np.uint8]) -> Self:
        """Compress images, uint8 [steps, N, height, width, 3]."""
        # Little moves from step to step, so differences (modulo 256) are mostly zero.
        changes = images.copy()
        changes[1:] -= images[:-1]
        num_steps, num_cameras, height, width, channels = images.shape
        return cls(
            packed=zlib.compress(changes.tobytes(), FASTEST),
            shape=(num_steps, num_cameras, height, width, channels),
        )

    def __len__(self) -> int:
        """Return the number of control steps."""
        return self.shape[0]

    @property
    def num_bytes(self) -> int:
        """Return the size of the images when unpacked."""
        return int(np.prod(self.shape))

    def unpack(self) -> NDArray[np.uint8]:
        """Return the images, uint8 [steps, N, height, width, 3].

        Raises:
            ValueError: ``packed`` holds anything else than images of this shape.
        """
        changes = np.frombuffer(self._decompress(), dtype=np.uint8).reshape(self.shape)
        return np.cumsum(changes, axis=0, dtype=np.uint8)

    def check(self) -> None:
        """Raise ``ValueError`` unless ``packed`` holds exactly images of this shape."""
        self._decompress()

    def _decompress(self) -> bytes:
        decoder = zlib.decompressobj()
        try:
            # Never more than one byte too many, also of data that would unpack to gigabytes.
            images = decoder.decompress(self.packed, self.num_bytes + 1)
        except zlib.error as error:
            raise ValueError(f"no compressed images: {error}") from None
        if len(images) != self.num_bytes or not decoder.eof or decoder.unused_data:
            raise ValueError(f"not {self.num_bytes} bytes of images")
        return images
