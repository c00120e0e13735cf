"""A video that does not fit on the disk is one error and no file."""

from pathlib import Path

import numpy as np
import pytest

from pi0.ript.report.video import read_video, write_video
from tests.disks import needs_root, small_disk
from tests.policy_parts import raises_one_line


def noise(num_frames: int):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (256, 256, 3), np.uint8) for _ in range(num_frames)]


@needs_root
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path):
    with small_disk(tmp_path / "disk", "16k") as disk:
        with pytest.raises(OSError, match="cannot write video") as caught:
            write_video(disk / "video.mp4", noise(1))
        left = list(disk.iterdir())

    assert raises_one_line(caught.value, "video.mp4", "No space left", "evaluation.save_videos")
    assert left == []


@pytest.mark.parametrize("damage", [lambda video: b"", lambda video: video[: len(video) // 2]])
def test_a_video_that_was_cut_is_refused(tmp_path: Path, damage):
    video = write_video(tmp_path / "video.mp4", noise(3))
    assert read_video(video).shape == (3, 256, 256, 3)

    video.write_bytes(damage(video.read_bytes()))
    with pytest.raises(ValueError, match=r"video\.mp4 is no readable video"):
        read_video(video)
