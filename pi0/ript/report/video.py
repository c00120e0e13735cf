"""Episodes as mp4 videos, a frame per policy step or control step, encoded while simulators go on."""

import io
import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pi0.files import write_atomically
from pi0.images import as_rendered
from pi0.ript.config.schema import VideoConfig
from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.packed_frames import VideoRate
from pi0.ript.types import Episode

logger = logging.getLogger(__name__)

MIN_HEIGHT = 256
REDRAWN = "redrawn"  # folder of videos that were drawn after the run, larger than what the policy observed
POLICY_STEPS_PER_S = 10  # policy steps are not evenly spaced in time
STEPS_PER_S = 20  # LIBERO's control rate: the video runs as fast as the robot
NICENESS = 10
MEGABYTE = 10**6
CODEC = "libx264"
# One encoder thread: more would take cores from simulators. "veryfast" halves the work of the default.
_ENCODER = {"threads": "1", "preset": "veryfast"}


def write_episode_video(folder: Path, episode: Episode) -> Path:
    """Write a video of what the policy observed, cameras side by side; return the file.

    Raises:
        ValueError: The episode has no image.
    """
    if not episode.policy_steps:
        raise ValueError(
            f"episode {episode_video_name(episode)} has no policy step and so no image for a video"
        )
    folder.mkdir(parents=True, exist_ok=True)
    frames_per_s = STEPS_PER_S if episode.frames else POLICY_STEPS_PER_S
    return write_video(folder / episode_video_name(episode), episode_frames(episode), frames_per_s)


def write_video(
    path: Path, frames: Iterable[NDArray[np.uint8]], frames_per_s: int = POLICY_STEPS_PER_S
) -> Path:
    """Write frames, uint8 [height, width, 3] RGB of one size, as an mp4 that appears whole or not at all.

    Raises:
        OSError: It could not be written.
    """
    video = encode_video(frames, frames_per_s)
    try:
        write_atomically(path, video)
    except OSError as error:
        raise OSError(
            f"cannot write video {path}: {error.strerror}; free disk space, or set video.save to false "
            "and evaluation.save_videos to 0"
        ) from error
    return path


def encode_video(frames: Iterable[NDArray[np.uint8]], frames_per_s: int) -> bytes:
    """Return frames, uint8 [height, width, 3] RGB of one size, as an H.264 video in an mp4 file."""
    shapes: set[tuple[int, ...]] = set()
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as video:
        stream: VideoStream | None = None
        for frame in frames:
            shapes.add(frame.shape)
            assert len(shapes) == 1, f"a video needs frames of one shape, got {shapes}"
            image = _viewable(frame)
            stream = stream or _add_stream(video, image, frames_per_s)
            video.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        assert stream is not None, "a video needs a frame"
        video.mux(stream.encode())
    return file.getvalue()


def read_video(path: Path) -> NDArray[np.uint8]:
    """Return the frames of a video, uint8 [frames, height, width, 3] RGB.

    Raises:
        ValueError: It is no video, or not a whole one.
    """
    try:
        with av.open(str(path)) as video:
            images = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
            return np.stack(images, dtype=np.uint8)
    except (FFmpegError, IndexError, ValueError) as error:
        raise ValueError(f"{path} is no readable video: {error}") from None


def _add_stream(video: OutputContainer, image: NDArray[np.uint8], frames_per_s: int) -> VideoStream:
    stream = video.add_stream(CODEC, rate=frames_per_s, options=dict(_ENCODER))
    stream.height, stream.width = image.shape[:2]
    stream.pix_fmt = "yuv420p"  # what every browser plays
    return stream


def episode_frames(episode: Episode) -> Iterator[NDArray[np.uint8]]:
    """Yield one frame per policy step, cameras side by side, upright (LIBERO renders upside-down).

    With frames of control steps: the first observation, then one frame per control step.

    Raises:
        ValueError: Packed frames are damaged.
    """
    size = episode.frames[0].shape[2:4] if episode.frames else None
    for policy_step in episode.policy_steps[:1] if episode.frames else episode.policy_steps:
        yield side_by_side(as_rendered(policy_step.observation, size))
    for frames in episode.frames:
        yield from map(side_by_side, frames.unpack())


def side_by_side(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return one upright image of N that LIBERO rendered: uint8 [N, height, width, 3] -> [height, N * width, 3]."""
    return np.concatenate([image[::-1] for image in images], axis=1)


def episode_video_name(episode: Episode) -> str:
    """Return the file name of the video of an episode."""
    return video_name(EpisodeRecord.of(episode))


def video_name(record: EpisodeRecord) -> str:
    """Return a file name with task, state, seed and outcome, safe on every file system."""
    words = re.sub(r"[^A-Za-z0-9]+", "_", record.task).strip("_").lower()[:80]
    suite = re.sub(r"[^A-Za-z0-9_]+", "_", record.suite)
    where = f"{suite}_{record.task_id}_{words}_state{record.state_index}"
    return f"{where}_seed{record.seed}_{record.outcome}.mp4"


def _viewable(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Enlarge small images by a whole factor and crop to even sides, which H.264 needs."""
    factor = -(-MIN_HEIGHT // frame.shape[0])
    large = frame.repeat(factor, axis=0).repeat(factor, axis=1)
    return large[: large.shape[0] // 2 * 2, : large.shape[1] // 2 * 2]


class VideoWriter:
    """Encodes videos one after the other in a thread of low priority: no rollout waits for it.

    Past either limit further videos are left out, and how many is logged at the end.
    """

    def __init__(
        self, *, max_films: int, max_megabytes: float, earlier: Sequence[Path] = ()
    ) -> None:
        """Start the thread; ``earlier`` videos, which a resumed run has on disk, count too."""
        self._videos_left = max_films - len(earlier)
        self._bytes_left = max_megabytes * MEGABYTE - sum(video.stat().st_size for video in earlier)
        self._num_left_out = 0
        self._under_way: list[Future[None]] = []
        self._thread = ThreadPoolExecutor(1, "videos", initializer=_yield_to_simulators)

    @classmethod
    def within(cls, config: VideoConfig, earlier: Sequence[Path] = ()) -> Self:
        """Return a writer that keeps to the limits of the configuration."""
        return cls(max_films=config.max_films, max_megabytes=config.max_megabytes, earlier=earlier)

    def rate(self, wanted: VideoRate) -> VideoRate:
        """Return ``decisions``, which cost nothing, where a limit leaves further videos out."""
        return wanted if self._videos_left > 0 and self._bytes_left > 0 else "decisions"

    def write(self, folder: Path, episode: Episode) -> None:
        """Write a video of an episode some time before ``close`` returns."""
        if self._videos_left <= 0:
            self._num_left_out += 1
            return
        self._videos_left -= 1
        self._under_way.append(self._thread.submit(self._encode, folder, episode))

    def close(self) -> None:
        """Wait for the videos under way.

        Raises:
            OSError: A video could not be written.
        """
        self._thread.shutdown()
        under_way, self._under_way = self._under_way, []
        for video in under_way:
            video.result()
        if self._num_left_out:
            logger.info(
                "%d videos left out: video.max_films or video.max_megabytes is reached",
                self._num_left_out,
            )
        self._num_left_out = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _encode(self, folder: Path, episode: Episode) -> None:
        if self._bytes_left <= 0:
            self._num_left_out += 1
            return
        self._bytes_left -= write_episode_video(folder, episode).stat().st_size


def _yield_to_simulators() -> None:
    # On Linux priorities belong to threads, and the encoder works in the one that calls it.
    niceness = max(
        os.getpriority(os.PRIO_PROCESS, 0), NICENESS
    )  # root could also take back what nice was told
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


class EpisodeVideos:
    """Passes episodes on and writes videos of those that are to be recorded."""

    def __init__(self, writer: VideoWriter, folder: Path, then: Callable[[Episode], None]) -> None:
        self._writer = writer
        self._folder = folder
        self._then = then

    def __call__(self, episode: Episode) -> None:
        """Take a finished episode."""
        # A simulator that crashed at once left no image.
        if episode.request.record_video and episode.policy_steps:
            self._writer.write(self._folder, episode)
        self._then(episode)
