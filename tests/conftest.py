"""Skips what this machine cannot run."""

import os

import pytest

# Headless rendering must be chosen before the first import of mujoco.
os.environ.setdefault("MUJOCO_GL", "egl")
# Tiny networks on shared cores: threads that wait for each other take 20 times as long as one.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch  # noqa: PLC0415 - only a run with gpu tests pays for this import

    if not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
