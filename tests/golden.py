"""Small files that real peers wrote (openpi, LeRobot, LIBERO under an older MuJoCo).

They are no part of the repository: a test that reads them skips where they are absent.
"""

import os
from pathlib import Path

import pytest

from tests.project_files import ROOT

FOLDER = Path(os.environ.get("PI0_GOLDEN", ROOT.parent / "shared" / "golden"))


def golden(name: str) -> Path:
    """Return a file or folder, or skip the test."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"{name} of the golden files is not here; PI0_GOLDEN says where they are")
    return path
