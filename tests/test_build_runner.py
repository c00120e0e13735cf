"""Settings that only ``build_runner`` turns into something."""

import pytest

from pi0.ript import build_runner
from pi0.ript.build_runner import choose_egl_device, create_env_runner, resolve_tasks
from pi0.ript.config.schema import EnvConfig, PolicyConfig, TaskConfig, TrainConfig
from tests.env.toys import ToyPolicy

ON_CPU = PolicyConfig(device="cpu")


@pytest.fixture(autouse=True)
def no_devices_in_the_environment(monkeypatch):
    monkeypatch.delenv("MUJOCO_EGL_DEVICE_ID", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_on_a_cpu_the_drawing_device_is_left_to_the_environment():
    assert choose_egl_device(TrainConfig(policy=ON_CPU)) is None


def test_a_configured_drawing_device_reaches_the_runner():
    config = TrainConfig(policy=ON_CPU, env=EnvConfig(egl_device=3))

    assert create_env_runner(config, ToyPolicy()).egl_device == 3


@pytest.mark.parametrize(
    ("batch_size", "has_gpu", "expected"),
    [("auto", False, 4), ("auto", True, 64), (6, True, 6), (6, False, 6)],
)
def test_the_most_samples_of_a_call_are_those_of_the_device(
    batch_size, has_gpu, expected, monkeypatch
):
    monkeypatch.setattr(build_runner, "uses_gpu", lambda config: has_gpu)
    monkeypatch.setattr(build_runner, "choose_egl_device", lambda config: None)
    config = TrainConfig(policy=PolicyConfig(batch_size=batch_size))

    assert create_env_runner(config, ToyPolicy()).batch_size == expected


def test_tasks_of_several_suites_reach_the_runner():
    task = TaskConfig(task_names_to_use=(7, "libero_object/0", "turn_on_the_stove"))
    config = TrainConfig(policy=ON_CPU, task=task)

    assert resolve_tasks(config) == (("libero_goal", 7), ("libero_object", 0))
    assert create_env_runner(config, ToyPolicy()).tasks == resolve_tasks(config)
