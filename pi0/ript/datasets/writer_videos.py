"""Images of one feature as mp4 files, an episode after the other, a new file where one is full."""

from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

CHUNK_FILES = 1000
CODEC = "libx264"
PIXELS = "yuv420p"
# As LeRobot's sets: every second frame can be sought. Quality 18 is a mean error of about one level of 255.
ENCODER = {"g": "2", "crf": "18", "preset": "veryfast", "threads": "1"}


class FileCounter:
    """Numbers the files of one kind: ``chunk-000/file-000``, a thousand in a chunk."""

    def __init__(self) -> None:
        self._number = 0

    @property
    def chunk(self) -> int:
        """Return the number of the folder."""
        return self._number // CHUNK_FILES

    @property
    def file(self) -> int:
        """Return the number of the file in its folder."""
        return self._number % CHUNK_FILES

    def name(self, suffix: str) -> str:
        """Return the path of the file below the folder of its kind."""
        return f"chunk-{self.chunk:03d}/file-{self.file:03d}.{suffix}"

    def advance(self) -> None:
        """Go on with the next file."""
        self._number += 1


class VideoFiles:
    """Appends episodes to mp4 files."""

    def __init__(self, folder: Path, key: str, fps: int, most_bytes: int) -> None:
        """Prepare the first file of a feature.

        Args:
            folder: The data set.
            key: The feature.
            fps: Frames per second.
            most_bytes: A file that is larger gets no further episode.
        """
        self._folder = folder / "videos" / key
        self._key, self._fps, self._most_bytes = key, fps, most_bytes
        self._places = FileCounter()
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._num_frames = self._num_bytes = 0  # of the file
        self.encoding: dict[str, object] = {}

    def add(self, frames: NDArray[np.uint8]) -> dict[str, int | float]:
        """Append the frames of an episode, uint8 [F, height, width, 3]; return where they are."""
        stream = self._open(*frames.shape[1:3])
        start = self._num_frames
        for frame in frames:
            self._mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        self._num_frames += len(frames)
        place = {
            f"videos/{self._key}/chunk_index": self._places.chunk,
            f"videos/{self._key}/file_index": self._places.file,
            f"videos/{self._key}/from_timestamp": start / self._fps,
            f"videos/{self._key}/to_timestamp": self._num_frames / self._fps,
        }
        if self._num_bytes > self._most_bytes:
            self.close()
            self._places.advance()
        return place

    def close(self) -> None:
        """Finish the file in progress."""
        if self._container is not None:
            assert self._stream is not None
            self._mux(self._stream.encode())
            self._container.close()
            self._container = self._stream = None
            self._num_frames = self._num_bytes = 0

    def _open(self, height: int, width: int) -> VideoStream:
        if self._stream is None:
            path = self._path()
            path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(path), "w", format="mp4")
            stream = self._container.add_stream(CODEC, rate=self._fps, options=dict(ENCODER))
            stream.height, stream.width, stream.pix_fmt = height, width, PIXELS
            self._stream = stream
            self.encoding = {
                "video.height": height,
                "video.width": width,
                "video.codec": "h264",
                "video.pix_fmt": PIXELS,
                "video.fps": self._fps,
                "video.channels": 3,
                "has_audio": False,
                "is_depth_map": False,
            }
        return self._stream

    def _mux(self, packets: list[av.Packet]) -> None:
        assert self._container is not None
        self._num_bytes += sum(packet.size for packet in packets)
        self._container.mux(packets)

    def _path(self) -> Path:
        return self._folder / self._places.name("mp4")
