"""Skips what this machine cannot run, and lets processes that share the tests end together."""

import os
from collections import Counter

import pytest

# Headless rendering must be chosen before the first import of mujoco.
os.environ.setdefault("MUJOCO_GL", "egl")
# Tiny networks on shared cores: threads that wait for each other take 20 times as long as one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
SHARES_THE_MACHINE = "PYTEST_XDIST_WORKER" in os.environ
if SHARES_THE_MACHINE:
    # The software renderer would start a thread per core in each of the processes.
    os.environ.setdefault("LP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SHARES_THE_MACHINE:
        # Files with most long tests go first, so that no process works on one when the others are done.
        marks = ("slow", "libero")
        long = Counter(item.path for item in items if any(map(item.get_closest_marker, marks)))
        items.sort(key=lambda item: -long[item.path])
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch  # noqa: PLC0415 - only a run with gpu tests pays for this import

    if not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
