"""Simulators draw where the policy computes, unless a setting or the environment chooses."""

import pytest

from pi0.ript.env.libero.headless import resolve_egl_device
from pi0.ript.env.pool.worker_process import worker_environment


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
    assert resolve_egl_device(requested, cuda_index, environment) == expected


def test_workers_get_the_device_and_no_list_that_contradicts_it(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")

    environment = worker_environment(5)

    assert environment["MUJOCO_EGL_DEVICE_ID"] == "5"
    assert "CUDA_VISIBLE_DEVICES" not in environment


def test_workers_inherit_a_choice_already_made(monkeypatch):
    monkeypatch.setenv("MUJOCO_EGL_DEVICE_ID", "4")

    assert worker_environment(None)["MUJOCO_EGL_DEVICE_ID"] == "4"
