"""``ript doctor``: lines or JSON, and a status that says whether something must be mended."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from pi0.checkpoint import find_folder
from pi0.ript.scripts.doctor import main
from tests.policy_parts import raises_one_line
from tests.programs import run_program


def _doctor(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run_program("pi0.ript.scripts.cli:dispatch", ["doctor", *arguments], cwd)


@pytest.mark.libero
@pytest.mark.slow
def test_a_broken_checkpoint_is_exit_1_and_the_rest_is_still_examined(tmp_path: Path):
    policy = Path(shutil.copytree(find_folder("builtin"), tmp_path / "policy"))
    (policy / "model.safetensors").write_bytes(b"short")

    done = _doctor("--policy", policy, "--json", cwd=tmp_path)

    assert done.returncode == 1, done.stderr
    findings = json.loads(done.stdout)
    assert [f["name"] for f in findings if f["status"] == "error"] == ["policy"]
    names = {finding["name"] for finding in findings}
    assert {"python", "torch", "memory", "shared memory", "disk", "LIBERO", "rendering"} <= names
    assert (tmp_path / "doctor.png").is_file()


@pytest.mark.libero
@pytest.mark.slow
def test_lines_name_the_image_and_end_with_status_0_where_all_is_well(tmp_path: Path):
    done = _doctor("--picture", "frame.png", cwd=tmp_path)

    assert done.returncode == 0, done.stdout
    assert "see frame.png" in done.stdout
    assert all(line.startswith(("ok ", "warning ", " ")) for line in done.stdout.splitlines())


def test_a_picture_that_cannot_be_written_is_refused_before_anything_is_drawn(tmp_path: Path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    for name, parts in (
        ("out", ["does not end like a picture", "--picture doctor.png"]),
        (".", ["does not end like a picture"]),
        ("file/out.png", ["is no folder"]),
        ("nowhere/out.png", ["is no folder"]),
        ("folder.png", ["cannot be written"]),
    ):
        with pytest.raises((ValueError, OSError)) as found:
            main(["--picture", str(tmp_path / name)])
        assert raises_one_line(found.value, f"--picture {tmp_path / name}", *parts)


def test_a_wrong_flag_is_status_2(tmp_path: Path):
    assert _doctor("--override", "extra_delta", cwd=tmp_path).returncode == 2
