"""Pictures of consecutive control steps, small enough to keep until their film is encoded."""

import zlib
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

VideoRate = Literal["decisions", "steps"]
"""A film shows what the policy saw at its decisions, or a picture after every control step."""

FASTEST = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedFrames:
    """One picture of every camera after each control step of a command, compressed without loss.

    Example: ``PackedFrames.pack(images).unpack()`` gives the images back, bit for bit.

    Attributes:
        packed: The compressed pictures.
        shape: Control steps, cameras, height, width and 3.
    """

    packed: bytes
    shape: tuple[int, int, int, int, int]

    @classmethod
    def pack(cls, images: NDArray[np.uint8]) -> Self:
        """Compress pictures, uint8 [steps, cameras, height, width, 3]."""
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
        """Return the size of the pictures themselves."""
        return int(np.prod(self.shape))

    def unpack(self) -> NDArray[np.uint8]:
        """Return the pictures, uint8 [steps, cameras, height, width, 3].

        Raises:
            ValueError: ``packed`` holds anything else than pictures of this shape.
        """
        changes = np.frombuffer(self._decompress(), dtype=np.uint8).reshape(self.shape)
        return np.cumsum(changes, axis=0, dtype=np.uint8)

    def check(self) -> None:
        """Raise ``ValueError`` unless ``packed`` holds exactly pictures of this shape."""
        self._decompress()

    def _decompress(self) -> bytes:
        decoder = zlib.decompressobj()
        try:
            images = decoder.decompress(
                self.packed, self.num_bytes + 1
            )  # never more, whatever comes
        except zlib.error as error:
            raise ValueError(f"no compressed pictures: {error}") from None
        if len(images) != self.num_bytes or not decoder.eof or decoder.unused_data:
            raise ValueError(f"no {self.num_bytes} bytes of pictures")
        return images
