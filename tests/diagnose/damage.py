"""Machines that lack something, made for real: small file systems in a mount namespace of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def findings_of(
    expression: str, *, mount: tuple[str, Path] | None = None, **environment: str
) -> list[dict[str, str]]:
    """Evaluate an expression of findings in a fresh process and return them as JSON.

    ``mount`` puts a tmpfs of the given size over a folder, visible to that process only.
    """
    program = (
        "import json; from dataclasses import asdict; from pathlib import Path\n"
        "from pi0.ript.diagnose import machine, simulator, software\n"
        f"print(json.dumps([asdict(each) for each in {expression}]))"
    )
    argv = [sys.executable, "-c", program]
    if mount is not None:
        size, folder = mount
        script = f"mount -t tmpfs -o size={size} tmpfs '{folder}' && exec \"$@\""
        argv = ["unshare", "--mount", "sh", "-c", script, "sh", *argv]
    path = os.pathsep.join([environment.pop("PYTHONPATH", ""), str(ROOT)]).lstrip(os.pathsep)
    done = subprocess.run(
        argv, cwd=ROOT, env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def may_mount(folder: Path) -> bool:
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", folder]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@pytest.fixture
def mountable(tmp_path: Path) -> Path:
    if not may_mount(tmp_path):
        pytest.skip("mounting a small file system needs root")
    return tmp_path
