"""Random damage to any file of a data set: what is read, or refused in one line; nothing else."""

import random
from pathlib import Path

import h5py
import numpy as np
import pytest

from pi0.ript.datasets.hdf5 import read_actions
from pi0.ript.datasets.lerobot import open_lerobot
from pi0.ript.scripts.exits import is_user_error
from tests.datasets.lerobot_sets import CAMERAS, write_set


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, the end cut off, or a part repeated."""
    data, place = bytearray(content), rng.randrange(len(content))
    kind = rng.choice(["changed", "changed", "cut", "repeated"])
    if kind == "cut":
        return bytes(data[:place])
    if kind == "repeated":
        return bytes(data[:place] + data[place : place + 50] + data[place:])
    for _ in range(rng.choice([1, 3, 20])):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def survives(read, what: str) -> bool:
    """Return whether it could be read; it may only be refused in one line of our own."""
    try:
        read()
    except (ValueError, FileNotFoundError) as error:
        assert is_user_error(error), f"{what}: {error!r}"
        assert "\n" not in str(error), what
        return False
    return True


@pytest.mark.parametrize(("version", "is_video"), [("v2.1", True), ("v3.0", False), ("v3.0", True)])
def test_a_damaged_lerobot_set_is_read_or_refused(tmp_path: Path, version: str, is_video: bool):
    folder, rng = write_set(tmp_path / "set", version, is_video=is_video), random.Random(0)
    files = sorted(path for path in folder.rglob("*") if path.is_file())

    def read() -> None:
        open_lerobot(folder, CAMERAS).read_images(np.array([0, 13, 27]))

    assert survives(read, "nothing")
    outcomes = []
    for number in range(60):
        path = rng.choice(files)
        content = path.read_bytes()
        path.write_bytes(damaged(content, rng))
        outcomes.append(survives(read, f"{number}: {path.name}"))
        path.write_bytes(content)
    assert outcomes.count(False) > 30


def test_a_damaged_recording_is_read_or_refused(tmp_path: Path):
    path, rng = tmp_path / "task_demo.hdf5", random.Random(0)
    with h5py.File(path, "w") as file:
        for name in ("demo_0", "demo_1"):
            file[f"data/{name}/actions"] = np.zeros((5, 7))
            file[f"data/{name}/states"] = np.zeros((5, 30))
    content = path.read_bytes()

    assert survives(lambda: read_actions(path), "nothing")
    for number in range(150):
        path.write_bytes(damaged(content, rng))
        survives(lambda: read_actions(path), str(number))
