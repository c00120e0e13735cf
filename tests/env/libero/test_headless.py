"""Simulators draw where the policy computes, unless a setting or the environment chooses; what cannot be is named."""

import os
import subprocess
import sys

import pytest

from pi0.ript.env.libero import headless
from pi0.ript.env.libero.headless import (
    RenderingError,
    check_device,
    check_variables,
    count_egl_devices,
    resolve_egl_device,
)
from pi0.ript.env.pool.process_environment import worker_environment

EGL = {"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "egl"}


@pytest.mark.parametrize(
    ("requested", "cuda_index", "environment", "expected"),
    [
        pytest.param("auto", None, {}, None, id="no GPU, no choice"),
        pytest.param("auto", 1, {}, 1, id="the policy's GPU"),
        pytest.param("auto", 1, {"CUDA_VISIBLE_DEVICES": "2, 5"}, 5, id="as the machine counts"),
        pytest.param("auto", None, {"CUDA_VISIBLE_DEVICES": "3"}, 3, id="a GPU for drawing only"),
        pytest.param("auto", None, {"CUDA_VISIBLE_DEVICES": ""}, None, id="GPUs hidden"),
        pytest.param("auto", 0, {"CUDA_VISIBLE_DEVICES": "GPU-8f2a"}, 0, id="a GPU by name"),
        pytest.param("auto", 1, {"MUJOCO_EGL_DEVICE_ID": "4"}, None, id="the environment wins"),
        pytest.param(2, 1, {"MUJOCO_EGL_DEVICE_ID": "4"}, 2, id="the setting wins over all"),
    ],
)
def test_device(requested, cuda_index, environment, expected):
    assert resolve_egl_device(requested, cuda_index, environment, lambda: 8) == expected


@pytest.mark.parametrize("visible", ["8", "0,9,1", "12"])
def test_a_device_that_egl_does_not_show_is_not_guessed(visible: str, caplog):
    index = 1 if "," in visible else 0

    assert resolve_egl_device("auto", index, {"CUDA_VISIBLE_DEVICES": visible}, lambda: 8) is None
    assert f"CUDA_VISIBLE_DEVICES={visible}" in caplog.text
    assert "devices 0..7" in caplog.text


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"MUJOCO_GL": "glfw"}, "MUJOCO_GL"),
        ({"MUJOCO_GL": "disable"}, "MUJOCO_GL"),
        ({"MUJOCO_GL": "cgl"}, "MUJOCO_GL"),
        ({"PYOPENGL_PLATFORM": "osmesa"}, "PYOPENGL_PLATFORM"),
        ({"PYOPENGL_PLATFORM": "x11"}, "PYOPENGL_PLATFORM"),
        ({"MUJOCO_EGL_DEVICE_ID": "cuda:0"}, "MUJOCO_EGL_DEVICE_ID"),
        ({"MUJOCO_EGL_DEVICE_ID": "GPU-8f2a"}, "MUJOCO_EGL_DEVICE_ID"),
        ({"MUJOCO_EGL_DEVICE_ID": "-1"}, "MUJOCO_EGL_DEVICE_ID"),
    ],
)
def test_a_variable_that_cannot_be_followed_is_named_with_its_value(variables, name):
    with pytest.raises(RenderingError, match=name) as refusal:
        check_variables(EGL | variables)

    assert variables[name] in str(refusal.value)
    assert "apt-get" not in str(refusal.value)


def test_variables_that_can_be_followed_pass():
    check_variables(EGL | {"MUJOCO_EGL_DEVICE_ID": "1"})
    check_variables({"MUJOCO_GL": "osmesa", "PYOPENGL_PLATFORM": "osmesa"})


def test_a_device_that_does_not_exist_is_named_with_those_that_do(monkeypatch):
    monkeypatch.setattr(headless, "count_egl_devices", lambda: 2)
    check_device(EGL | {"MUJOCO_EGL_DEVICE_ID": "1"})

    with pytest.raises(RenderingError, match=r"EGL device 2 .* devices 0\.\.1; unset"):
        check_device(EGL | {"MUJOCO_EGL_DEVICE_ID": "2"})


def test_drivers_hidden_by_a_variable_are_no_matter_of_packages(monkeypatch):
    monkeypatch.setattr(headless, "count_egl_devices", lambda: 0)

    with pytest.raises(RenderingError, match="__EGL_VENDOR_LIBRARY_DIRS=/other") as refusal:
        check_device(EGL | {"__EGL_VENDOR_LIBRARY_DIRS": "/other"})
    assert "apt-get" not in str(refusal.value)
    with pytest.raises(RenderingError, match="apt-get"):
        check_device(EGL)


def test_egl_is_asked_without_a_context():
    assert count_egl_devices() is None or count_egl_devices() >= 0


def test_workers_get_the_device_and_no_list_that_contradicts_it(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")

    environment = worker_environment(5)

    assert environment["MUJOCO_EGL_DEVICE_ID"] == "5"
    assert "CUDA_VISIBLE_DEVICES" not in environment


def test_workers_inherit_a_choice_already_made(monkeypatch):
    monkeypatch.setenv("MUJOCO_EGL_DEVICE_ID", "4")

    assert worker_environment(None)["MUJOCO_EGL_DEVICE_ID"] == "4"


@pytest.mark.libero
@pytest.mark.slow
@pytest.mark.parametrize("visible", ["", "GPU-8f2a4c11,GPU-1b", "MIG-3f0e", "7"])
def test_a_list_of_gpus_does_not_keep_a_process_from_drawing(visible: str):
    program = "from pi0.ript.env.libero.headless import *; require_rendering()"
    program += "; assert os.environ[CUDA_VARIABLE] == " + repr(visible)

    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": visible, "MUJOCO_EGL_DEVICE_ID": "0"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
