"""docs/engine.md: a program's section is replaced by what it found, those of others stay."""

import json
from pathlib import Path

import pytest

from benchmarks.parts.document import ROOT
from benchmarks.publish import DOCUMENT, PROGRAMS, publish

MACHINE = {"cpu": "a chip", "cores": 2, "memory_gib": 23.5, "mujoco": "3.3.2", "robosuite": "1.4.0"}
SCHEDULER = {
    "machine": MACHINE,
    "is_quick": True,
    "slots": 16,
    "episodes_per_minute": {"ready": 30.0, "resting": 20.0, "stepping": 10.0},
}


def section(text: str, name: str) -> str:
    return text.partition(f"<!-- {name}: begin -->")[2].partition(f"<!-- {name}: end -->")[0]


@pytest.fixture
def document(tmp_path: Path) -> Path:
    copy = tmp_path / "engine.md"
    copy.write_text(DOCUMENT.read_text())
    return copy


def test_what_was_measured_is_replaced_and_the_rest_left_alone(tmp_path: Path, document: Path):
    (tmp_path / "scheduler.json").write_text(json.dumps(SCHEDULER))

    assert publish(tmp_path, document, tmp_path) == ["scheduler"]

    new, old = document.read_text(), DOCUMENT.read_text()
    found = section(new, "scheduler")
    assert (
        "`benchmarks/scheduler.py --quick` on a chip, 2 cores, 24 GiB, no GPU; MuJoCo 3.3.2"
        in found
    )
    assert "| all that are ready | 30 | 3.00 x |" in found  # 30 / 10
    for name in PROGRAMS.keys() - {"scheduler"}:
        assert section(new, name) == section(old, name)


def test_plots_are_copied(tmp_path: Path, document: Path):
    found, images = tmp_path / "found", tmp_path / "images"
    for folder in (found, images):
        folder.mkdir()
    (found / "slots.json").write_text(json.dumps({"machine": MACHINE, "is_quick": False}))
    (found / "engine_slots.png").write_bytes(b"plot")

    assert publish(found, document, images) == ["slots"]

    assert (images / "engine_slots.png").read_bytes() == b"plot"
    assert "images/engine_slots.png" in section(document.read_text(), "slots")
    assert (ROOT / "docs" / "images" / "engine_slots.png").read_bytes() != b"plot"


def test_nothing_measured_changes_nothing(tmp_path: Path, document: Path):
    assert publish(tmp_path, document, tmp_path) == []
    assert document.read_text() == DOCUMENT.read_text()
