"""A film that does not fit on the disk is one error and no file."""

import gc
from pathlib import Path

import numpy as np
import pytest

from pi0.ript.report.video import is_whole_film, write_video
from tests.disks import needs_root, small_disk
from tests.policy_parts import raises_one_line


def noise(num_frames: int):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (256, 256, 3), np.uint8) for _ in range(num_frames)]


@needs_root
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("num_frames", [1, 40])  # the encoder ends after, or while it is fed
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, num_frames: int):
    with small_disk(tmp_path / "disk", "16k") as disk:
        with pytest.raises(OSError, match="cannot write film") as caught:
            write_video(disk / "film.mp4", noise(num_frames))
        left = list(disk.iterdir())

    assert type(caught.value) is OSError, "a broken pipe would be taken for that of our output"
    assert raises_one_line(caught.value, "film.mp4", "evaluation.save_videos")
    assert left == []
    # imageio-ffmpeg leaves the pipe of an encoder that has ended to the garbage collector, which warns of
    # it: here and not in the middle of another test.
    del caught
    gc.collect()


def test_a_film_that_was_cut_is_not_whole(tmp_path: Path):
    film = write_video(tmp_path / "film.mp4", noise(3))
    assert is_whole_film(film)

    film.write_bytes(film.read_bytes()[:-1])
    assert not is_whole_film(film)
