"""Versions are those of the metadata that Python would find, and the fix is what pip takes."""

from pathlib import Path

import pytest

from pi0.ript.diagnose.software import (
    check_gpu,
    check_launchers,
    check_packages,
    check_python,
    check_videos,
)
from pi0.ript.report import video
from tests.diagnose.damage import findings_of


def _install(folder: Path, package: str, version: str) -> None:
    """Put the metadata of a package where Python looks first."""
    info = folder / f"{package}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")


def test_this_installation_is_well():
    findings = [check_python(), *check_packages(), check_gpu(), check_videos(), *check_launchers()]

    assert [f.name for f in findings if f.status == "error"] == []
    assert [f.name for f in findings][:3] == ["python", "torch", "packages"]


def test_a_wrong_torch_is_found_with_the_command_that_installs_the_right_one(tmp_path: Path):
    _install(tmp_path, "torch", "2.6.0")

    findings = findings_of("software.check_packages()", PYTHONPATH=str(tmp_path))

    torch = findings[0]
    assert (torch["name"], torch["status"]) == ("torch", "error")
    assert torch["text"] == "2.6.0 is installed, <3,>=2.7 is needed"
    assert torch["fix"] == "pip install 'torch<3,>=2.7'"
    assert [f["status"] for f in findings[1:]] == ["ok"]


def test_another_wrong_package_has_a_line_of_its_own(tmp_path: Path):
    _install(tmp_path, "robosuite", "1.5.1")

    findings = findings_of("software.check_packages()", PYTHONPATH=str(tmp_path))

    assert [(f["name"], f["status"]) for f in findings] == [("torch", "ok"), ("robosuite", "error")]
    assert "==1.4.0 is needed" in findings[1]["text"]


def test_a_missing_encoder_is_a_warning(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(video, "CODEC", "no_such_codec")

    finding = check_videos()

    assert (finding.name, finding.status) == ("videos", "warning")
    assert "no_such_codec" in finding.text
