"""A configuration of another LIBERO is refused by name where its paths lead nowhere, and followed where they do."""

from pathlib import Path

import pytest
from libero.libero import get_libero_path

from pi0.ript.env.libero_files import require_libero_files


@pytest.fixture
def write(tmp_path: Path, monkeypatch):
    """What writes the file that LIBERO_CONFIG_PATH leads to."""
    monkeypatch.setenv("LIBERO_CONFIG_PATH", str(tmp_path))
    return (tmp_path / "config.yaml").write_bytes


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            b"bddl_files: /gone/bddl_files\n",
            "says bddl_files: /gone/bddl_files, where no folder is",
        ),
        (b"init_states:\n", "says init_states: None"),
        (b"assets: [a, b]\n", "says assets: .*, where no folder is"),
        (b"- a list\n", "holds no keys"),
        (b"\xff\xfe\n", "cannot be read"),
        (b"a: &a [*a]\n", "part of"),
    ],
)
def test_what_leads_nowhere_is_refused_with_variable_and_file(
    write, tmp_path: Path, content, reason
):
    write(content)

    with pytest.raises(ValueError, match=reason) as refusal:
        require_libero_files()

    assert str(refusal.value).startswith(
        f"LIBERO_CONFIG_PATH={tmp_path}: {tmp_path}/config.yaml, which"
    )
    assert "; unset LIBERO_CONFIG_PATH, " in str(refusal.value)


def test_a_folder_that_lacks_scenes_is_refused(write, tmp_path: Path):
    for entry in Path(get_libero_path("assets")).iterdir():
        if entry.name != "scenes":
            (tmp_path / entry.name).touch()
    write(f"assets: {tmp_path}\n".encode())

    with pytest.raises(ValueError, match=f"says assets: {tmp_path}, where scenes is missing"):
        require_libero_files()


def test_without_the_variable_the_file_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.delenv("LIBERO_CONFIG_PATH", raising=False)
    monkeypatch.setattr("pi0.ript.env.libero_files.libero_config_path", str(tmp_path))
    (tmp_path / "config.yaml").write_text("assets: /gone\n")

    with pytest.raises(
        ValueError, match=f"LIBERO reads {tmp_path}/config.yaml, .*; move the file away"
    ):
        require_libero_files()


def test_what_holds_as_much_as_the_package_is_followed(write):
    paths = {key: get_libero_path(key) for key in ("bddl_files", "init_states", "assets")}
    for content in ("", "datasets: /gone\n", "".join(f"{k}: {v}\n" for k, v in paths.items())):
        write(content.encode())
        require_libero_files()
