"""Only the versions that the engine is proven for simulate."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pi0.records import ObservationSpec
from pi0.ript.env.libero.versions import (
    VERIFIED,
    UnverifiedVersionError,
    require_verified_versions,
)
from pi0.ript.env.pool.scene_host import SceneHost

SPEC = ObservationSpec(cameras=("agentview",), height=64, width=64)


def pretend_installed(folder, package, version):
    """Put the metadata of another version in front of what is installed."""
    info = folder / f"{package.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")


def test_what_is_installed_is_verified():
    require_verified_versions()


def test_the_project_asks_for_what_is_verified():
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    asked = {r.name: str(r.specifier) for r in map(Requirement, project["dependencies"])}

    assert {name: asked[name] for name in VERIFIED} == {n: f"=={v}" for n, v in VERIFIED.items()}


@pytest.mark.parametrize(
    ("package", "version"), [("mujoco", "3.17.0"), ("mujoco", "3.3.1"), ("robosuite", "1.5.1")]
)
def test_another_version_is_refused_in_one_line_that_says_what_to_install(
    tmp_path, monkeypatch, package, version
):
    pretend_installed(tmp_path, package, version)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(UnverifiedVersionError) as refused:
        SceneHost(SPEC, num_slots=1, max_scenes=1, num_steps_wait=0)

    line = str(refused.value)
    assert f"{package} {version}" in line
    assert f"pip install {package}=={VERIFIED[package]}" in line
    assert "\n" not in line
