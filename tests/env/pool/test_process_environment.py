"""What simulator processes inherit, and that nothing in the current folder is imported by them."""

import os
import subprocess
from pathlib import Path

import pytest

from pi0.ript.env.pool.process_environment import (
    actor_environment,
    simulator_command,
    simulator_environment,
    worker_environment,
)

THREADS = {"LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def test_workers_have_one_thread_and_draw_on_the_device_they_are_given(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")

    environment = worker_environment(5)

    assert environment.items() >= THREADS.items()
    assert environment["MUJOCO_EGL_DEVICE_ID"] == "5"


@pytest.mark.parametrize(
    "name",
    [
        "OPENAI_API_KEY",
        "WANDB_API_KEY",
        "HF_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "NVIDIA_API_KEY",
        "PGPASSWORD",
    ],
)
def test_keys_and_passwords_are_not_inherited(name):
    assert simulator_environment({name: "secret", "PATH": "/bin"}) == {"PATH": "/bin"}


@pytest.mark.parametrize(
    "name",
    ["LIBERO_CONFIG_PATH", "LD_LIBRARY_PATH", "__EGL_VENDOR_LIBRARY_FILENAMES", "LIBGL_ALWAYS_SOFTWARE",
     "MUJOCO_EGL_DEVICE_ID", "NUMBA_CACHE_DIR", "NVIDIA_DRIVER_CAPABILITIES", "TMPDIR", "LC_ALL",
     "COVERAGE_PROCESS_START"],
)  # fmt: skip
def test_what_drawing_and_libero_need_is_inherited(name):
    assert simulator_environment({name: "value"}) == {name: "value"}


def test_only_absolute_entries_of_the_import_path_are_inherited():
    entries = os.pathsep.join(["", ".", "clone", "/somewhere/else", "./src"])

    assert simulator_environment({"PYTHONPATH": entries}) == {"PYTHONPATH": "/somewhere/else"}
    assert simulator_environment({"PYTHONPATH": os.pathsep}) == {}


def test_no_package_of_the_current_folder_is_imported(tmp_path: Path):
    """Neither one of the standard library, nor one that is installed, nor a clone of LIBERO, nor pi0."""
    for name in ("typing", "numpy", "yaml", "libero", "pi0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('{name} of the folder')")
    environment = simulator_environment({**os.environ, "PYTHONPATH": os.pathsep + "."})

    # A module that imports LIBERO, numpy and YAML.
    done = subprocess.run(
        simulator_command("pi0.ript.env.suites"),
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")


def test_actors_get_only_the_variables_that_their_host_lacks():
    assert actor_environment(None) == THREADS
    assert actor_environment(5) == {**THREADS, "MUJOCO_EGL_DEVICE_ID": "5"}
