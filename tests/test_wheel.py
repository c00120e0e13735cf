"""A wheel holds the whole package and runs from anywhere, without the checkout."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.project_files import ROOT

pytestmark = pytest.mark.slow

# A build writes beside its sources and takes what an earlier one left there, so it gets a copy.
BUILT_FROM = ("pi0", "pyproject.toml", "README.md", "LICENSE")


def call(*command: str | Path, cwd: Path) -> str:
    """Run a program without the variables of this checkout and return its stdout."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def sources() -> list[str]:
    """Return the files that a wheel is built from, relative to the checkout, as a commit would hold them."""
    kinds = ("--cached", "--others", "--exclude-standard", "--deduplicate")
    names = call("git", "ls-files", *kinds, "--", *BUILT_FROM, cwd=ROOT).splitlines()
    return [name for name in names if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wheel")


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    copy = folder / "sources"
    for name in sources():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    call(
        sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation",
        "--disable-pip-version-check", "--wheel-dir", folder, copy, cwd=folder,
    )  # fmt: skip
    (built,) = folder.glob("pi0_ript-*.whl")
    return built


@pytest.fixture(scope="module")
def python(folder: Path, wheel: Path) -> Iterator[Path]:
    """Return the interpreter of a new environment with the wheel and this one's dependencies."""
    environment = folder / "environment"
    venv.create(environment, symlinks=True)
    interpreter = environment / "bin/python"
    call(
        sys.executable, "-m", "pip", "--python", interpreter, "install", "--no-deps", "--no-index",
        "--disable-pip-version-check", wheel, cwd=folder,
    )  # fmt: skip
    # Comes last on the path, and what is named in it is not read for further paths: the editable
    # installation of the checkout stays out.
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    yield interpreter
    shutil.rmtree(environment)


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path):
    expected = {name for name in sources() if name.startswith("pi0/")}
    found = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert "pi0/py.typed" in expected
    assert (sorted(expected - found), sorted(found - expected)) == ([], [])


def test_the_package_is_the_one_of_the_wheel(folder: Path, python: Path):
    program = "import pi0, torch; print(pi0.__file__)"
    assert Path(call(python, "-c", program, cwd=folder)).is_relative_to(folder / "environment")


def test_a_shipped_configuration_needs_no_path(folder: Path, python: Path):
    ript = python.parent / "ript"
    page = call(ript, "train", "quickstart", "--help", cwd=folder)
    config = call(ript, "train", "quickstart", "--print_config", cwd=folder)

    assert page.startswith("usage: ript train NAME")
    assert "  quickstart  " in page
    assert "exp_name: quickstart\n" in config


@pytest.mark.libero
def test_an_evaluation_runs_to_its_page(folder: Path, python: Path):
    call(
        python.parent / "ript", "eval", "--policy", "builtin", "--suite", "libero_goal", "--tasks", "7",
        "--episodes", "1", "--max_episode_length", "8", "--output_dir", "results", cwd=folder,
    )  # fmt: skip

    assert len(json.loads((folder / "results/results.json").read_text())["episodes"]) == 1
    assert "<html" in (folder / "results/results.html").read_text()
