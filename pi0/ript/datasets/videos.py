"""Frames of mp4 files at given times, decoded when they are asked for."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from pi0.files import is_there, refuse_stand_in

TOLERANCE_S = 1e-4  # between the time of a frame and the time it should have: LeRobot's
MOST_OPEN = 16
READ_AHEAD = 32  # frames decoded on the way to a later one, before seeking is quicker


class VideoFrames:
    """Decodes frames of many files; the ones used last stay open.

    Args:
        fps: Frames per second of every file.
    """

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._open: OrderedDict[Path, _OpenVideo] = OrderedDict()

    def read(self, path: Path, times: Sequence[float]) -> list[NDArray[np.uint8]]:
        """Return the frames at times (s), each uint8 [height, width, 3]; quickest in ascending order.

        Raises:
            ValueError: A frame is missing or cannot be decoded.
        """
        video = self._open.pop(path, None) or _OpenVideo(path, self._fps)
        self._open[path] = video
        while len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)[1].close()
        return [video.frame_at(time) for time in times]


def check_video(path: Path, fps: float, shape: Sequence[int], end_s: float) -> None:
    """Read a file's header: nothing is decoded.

    Args:
        path: The file.
        fps: Frames per second that the data set says.
        shape: Height and width that the data set says.
        end_s: Seconds that the episodes in it need.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is cut off, or differs from what the data set says.
    """
    with _opened(path) as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate or 0)
        if abs(rate - fps) > 0.01 * fps:
            raise ValueError(
                f"{path} has {rate:g} frames per second, fps of the data set is {fps:g}; "
                "a set with mixed fps cannot be read, record or convert it with one"
            )
        if [stream.height, stream.width] != list(shape[:2]):
            raise ValueError(
                f"{path} has frames of {stream.height} x {stream.width}, the data set says {shape[0]} x {shape[1]}; "
                "copy the file again"
            )
        _require_whole(path, stream)
        ends_s = len(stream.index_entries) / fps
        if ends_s < end_s - 0.5 / fps:
            raise ValueError(
                f"{path} ends at {ends_s:.2f} s, its episodes need {end_s:.2f} s; copy the file again"
            )


class _OpenVideo:
    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._container = _opened(path)
        self._stream = self._container.streams.video[0]
        self._frames: Iterator[VideoFrame] = self._container.decode(self._stream)
        self._now = -np.inf  # time of the frame that was decoded last
        self._image: NDArray[np.uint8] | None = None

    def close(self) -> None:
        self._container.close()

    def frame_at(self, time: float) -> NDArray[np.uint8]:
        if self._image is not None and abs(self._now - time) <= TOLERANCE_S:
            return self._image
        try:
            return self._decode(time)
        except FFmpegError as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{self._path} cannot be decoded at {time:.3f} s ({reason:.120}); copy the file again"
            ) from None

    def _decode(self, time: float) -> NDArray[np.uint8]:
        if not self._now < time <= self._now + READ_AHEAD / self._fps:
            self._seek(time)
        for frame in self._frames:
            assert frame.time is not None, "frames of mp4 files have a time"
            if frame.time < time - TOLERANCE_S:
                continue
            if frame.time > time + TOLERANCE_S:
                break
            image = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
            self._now, self._image = frame.time, image
            return image
        self._now, self._image = -np.inf, None
        raise ValueError(f"{self._path} has no frame at {time:.4f} s; copy the file again")

    def _seek(self, time: float) -> None:
        """Go to where decoding reaches a time.

        Files are searched by when frames are decoded, which for frames that depend on later ones is before they are
        shown: the key frame that is found may come too late, then an earlier one is taken.
        """
        base = self._stream.time_base
        assert base is not None, "streams of mp4 files have a time base"
        for earlier in (0.0, 1.0, time):
            self._container.seek(round(max(0.0, time - earlier) / base), stream=self._stream)
            first = next(self._container.decode(self._stream), None)
            if first is not None and first.time is not None and first.time <= time + TOLERANCE_S:
                self._frames = chain([first], self._container.decode(self._stream))
                return
        self._frames = iter(())


def _opened(path: Path) -> InputContainer:
    if not is_there(path):
        raise FileNotFoundError(f"{path} does not exist; copy the data set again")
    refuse_stand_in(path)
    try:
        container = av.open(str(path))
    except (FFmpegError, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path} is damaged or no video ({reason:.120}); copy the file again"
        ) from None
    if not container.streams.video or container.streams.video[0].codec_context is None:
        raise ValueError(f"{path} holds no video that can be decoded; copy the file again")
    return container


def _require_whole(path: Path, stream: Any) -> None:
    """Refuse a file that ends before a frame that its index lists."""
    size = path.stat().st_size
    end = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
    if end > size:
        raise ValueError(
            f"{path} is cut off: it has {size} of at least {end} bytes; copy the file again"
        )
