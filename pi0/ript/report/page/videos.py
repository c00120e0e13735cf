"""Videos of the same held-out episodes before and after training, ready to be put into a page."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.report.page.run_files import Evaluation, RunFiles
from pi0.ript.report.video import REDRAWN, read_video, video_name

SHEET_FRAMES = 6
SHEET_HEIGHT = 120
MAX_REDRAWN_BYTES = 40_000_000  # asked for, so the page may be large
_ORDER = ("gained", "lost", "same")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A video and a sheet of its frames, both as data URLs.

    Attributes:
        step: Training steps before it.
        outcome: How the episode ended.
        num_steps: Control steps it took.
        sheet: JPEG, images of the first camera from left to right, from the first to the last.
        video: MP4, all cameras.
    """

    step: int
    outcome: str
    num_steps: int
    sheet: str
    video: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoPair:
    """The same episode before and after; ``after`` is None while there is one evaluation only."""

    task: str
    state_index: int
    seed: int
    before: Shot
    after: Shot | None


def video_pairs(run: RunFiles, max_pairs: int, max_bytes: int) -> list[VideoPair]:
    """Return held-out episodes with videos, as many as the limits allow.

    Those that were drawn again after the run come in the order of their tasks, all that ``MAX_REDRAWN_BYTES`` allow;
    where there are none, those that were recorded come with changed outcomes first.
    """
    if not run.evaluations:
        return []
    redrawn = _pairs_in(run, run.video_folder / REDRAWN)
    if redrawn:
        return _shots(run, run.video_folder / REDRAWN, redrawn, MAX_REDRAWN_BYTES)
    pairs = sorted(_pairs_in(run, run.video_folder), key=lambda pair: _ORDER.index(_change(*pair)))
    return _shots(run, run.video_folder, pairs[:max_pairs], max_bytes)


def _pairs_in(run: RunFiles, folder: Path) -> list[tuple[EpisodeRecord, EpisodeRecord]]:
    """Return the episodes of first and last evaluation of which a folder has both videos."""
    first, last = run.evaluations[0], run.evaluations[-1]
    return [
        (before, after)
        for before, after in zip(first.episodes, last.episodes, strict=True)
        if _path(folder, first, before).is_file() and _path(folder, last, after).is_file()
    ]


def _shots(
    run: RunFiles,
    folder: Path,
    pairs: Sequence[tuple[EpisodeRecord, EpisodeRecord]],
    max_bytes: int,
) -> list[VideoPair]:
    first, last = run.evaluations[0], run.evaluations[-1]
    is_paired = first is not last
    chosen: list[VideoPair] = []
    for before, after in pairs:
        max_bytes -= _size(folder, first, before) + is_paired * _size(folder, last, after)
        if max_bytes < 0:
            break
        chosen.append(
            VideoPair(
                task=before.task_label,
                state_index=before.state_index,
                seed=before.seed,
                before=_shot(folder, first, before),
                after=_shot(folder, last, after) if is_paired else None,
            )
        )
    return chosen


def contact_sheet(frames: NDArray[np.uint8], num_cameras: int) -> NDArray[np.uint8]:
    """Return up to ``SHEET_FRAMES`` evenly spaced images of the first camera side by side.

    Args:
        frames: uint8 [frames, height, width, 3] RGB, cameras side by side, at least one frame.
        num_cameras: How many cameras share the width.

    Returns:
        uint8 [``SHEET_HEIGHT``, any, 3].
    """
    picks = np.linspace(0, len(frames) - 1, min(SHEET_FRAMES, len(frames))).round().astype(int)
    first_camera = frames.shape[2] // num_cameras
    images = [Image.fromarray(frames[n][:, :first_camera]) for n in picks]
    size = (round(SHEET_HEIGHT * first_camera / frames.shape[1]), SHEET_HEIGHT)
    return np.concatenate([np.asarray(image.resize(size)) for image in images], axis=1)


def _change(before: EpisodeRecord, after: EpisodeRecord) -> str:
    was, now = before.is_success, after.is_success
    return "same" if was == now else "gained" if now else "lost"


def _path(folder: Path, evaluation: Evaluation, episode: EpisodeRecord) -> Path:
    return folder / f"step_{evaluation.step}" / video_name(episode)


def _size(folder: Path, evaluation: Evaluation, episode: EpisodeRecord) -> int:
    return _path(folder, evaluation, episode).stat().st_size


def _shot(folder: Path, evaluation: Evaluation, episode: EpisodeRecord) -> Shot:
    path = _path(folder, evaluation, episode)
    cameras = evaluation.policy["cameras"]
    assert isinstance(cameras, list), f"cameras of the policy card: {cameras!r}"
    frames = read_video(path)
    jpeg = io.BytesIO()
    Image.fromarray(contact_sheet(frames, len(cameras))).save(jpeg, "JPEG", quality=80)
    return Shot(
        step=evaluation.step,
        outcome=episode.outcome,
        num_steps=episode.num_steps,
        sheet=_data_url("image/jpeg", jpeg.getvalue()),
        video=_data_url("video/mp4", path.read_bytes()),
    )


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
