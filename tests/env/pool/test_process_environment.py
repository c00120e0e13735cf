"""The environment that simulator processes have before they load a library."""

import os

from pi0.ript.env.pool.process_environment import (
    PACKAGE_ROOT,
    actor_environment,
    worker_environment,
)


def test_workers_have_our_environment_with_one_thread_and_our_package(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setenv("SOMETHING_ELSE", "kept")

    environment = worker_environment(None)

    assert environment["PYTHONPATH"] == os.pathsep.join([PACKAGE_ROOT, "elsewhere"])
    assert (environment["OMP_NUM_THREADS"], environment["SOMETHING_ELSE"]) == ("1", "kept")


def test_actors_get_only_the_variables_that_their_host_lacks(monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    threads = {"LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    assert actor_environment(None, is_this_host=False) == threads
    assert actor_environment(5, is_this_host=True) == {
        **threads,
        "MUJOCO_EGL_DEVICE_ID": "5",
        "PYTHONPATH": PACKAGE_ROOT,
    }
