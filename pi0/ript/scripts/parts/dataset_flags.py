"""Flags and folders of programs that write LeRobotDatasets."""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pi0.card import PolicyCard
from pi0.records import ObservationSpec
from pi0.ript.datasets.libero import CAMERA_KEYS
from pi0.ript.datasets.recorded import RecordedEpisode, take_recorded
from pi0.ript.datasets.writer import FPS, ImageStorage, SetLayout

RENDER_SIZE = 256  # of the public sets
IMAGE_FLAGS = ("cameras", "render_size")
DATASET_FLAGS = (*IMAGE_FLAGS, "images", "fps")


def add_dataset_flags(parser: argparse.ArgumentParser) -> None:
    """Add what a LeRobotDataset looks like."""
    parser.add_argument(
        "--cameras",
        nargs="+",
        choices=tuple(CAMERA_KEYS),
        default=list(CAMERA_KEYS),
        help="of a LeRobotDataset; default both",
    )
    parser.add_argument(
        "--render_size",
        type=int,
        default=RENDER_SIZE,
        help="height and width of its images in pixels; default %(default)s, as in public sets",
    )
    parser.add_argument(
        "--images",
        choices=get_args(ImageStorage),
        default="video",
        help="video: H.264, small, about one level of 255 off; png: exact; default %(default)s",
    )
    parser.add_argument(
        "--fps",
        type=int,
        default=FPS,
        help="that the set says; default %(default)s, which is LIBERO's; public sets say 10 of the same frames, and "
        "sets with one fps can be joined",
    )


def spec_and_layout(
    arguments: argparse.Namespace, card: PolicyCard | None = None
) -> tuple[ObservationSpec, SetLayout]:
    """Return what is drawn, and how it is stored.

    Args:
        arguments: With the flags of ``add_dataset_flags``.
        card: Of the policy for which images are drawn; None for those that the flags choose.

    Raises:
        ValueError: A video cannot have such images, or LeRobotDatasets have no name for a camera.
    """
    spec = _chosen_spec(arguments) if card is None else _storable(card.spec, arguments.images)
    layout = SetLayout(cameras=spec.cameras, fps=arguments.fps, storage=arguments.images)
    return spec, layout


def _chosen_spec(arguments: argparse.Namespace) -> ObservationSpec:
    cameras, size = tuple(dict.fromkeys(arguments.cameras)), arguments.render_size
    if arguments.images == "video" and size % 2:
        raise ValueError(f"--render_size {size} is odd, which H.264 cannot store; use {size + 1}")
    return ObservationSpec(cameras=cameras, height=size, width=size)


def _storable(spec: ObservationSpec, storage: ImageStorage) -> ObservationSpec:
    """Refuse what a policy wants and no set can hold, before hours of episodes are recorded for it."""
    for camera in spec.cameras:
        if camera not in CAMERA_KEYS:
            raise ValueError(
                f"--policy draws camera {camera}, for which a LeRobotDataset has no name; it knows "
                f"{', '.join(CAMERA_KEYS)}: leave --policy out and choose with --cameras"
            )
    if storage == "video" and (spec.height % 2 or spec.width % 2):
        raise ValueError(
            f"--policy draws {spec.width} x {spec.height} pixels, and H.264 cannot store odd sizes; add --images png"
        )
    return spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Recordings:
    """Where simulator processes leave their episodes until all are there."""

    folder: Path

    def take(self) -> Iterator[RecordedEpisode]:
        """Yield the episodes; their files are gone afterwards."""
        return take_recorded(self.folder)


@contextmanager
def recordings_for(data_set: Path) -> Iterator[Recordings]:
    """Give a folder beside a data set in the making, which is gone afterwards."""
    data_set = data_set.resolve()  # beside ".", not inside of it
    data_set.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{data_set.name}.", dir=data_set.parent, ignore_cleanup_errors=True
    ) as folder:
        yield Recordings(folder=Path(folder))
