"""robosuite writes no log outside the run, and numba's cache has a folder that is ours alone."""

import os
from pathlib import Path

import numba.core.caching
import numba.core.config
import pytest
import robosuite.macros

from pi0.ript.env.libero import robosuite_macros
from pi0.ript.env.libero.robosuite_macros import find_cache, private_folder


@pytest.fixture
def no_cache_elsewhere(monkeypatch, tmp_path: Path):
    """An installation that cannot be written, for a user without a home."""
    wide = numba.core.caching.UserWideCacheLocator
    monkeypatch.setattr(numba.core.config, "CACHE_DIR", "")
    monkeypatch.setattr(wide, "get_cache_path", lambda _: "/proc/nowhere")
    monkeypatch.setattr(
        numba.core.caching.InTreeCacheLocator, "get_cache_path", lambda _: "/proc/nowhere"
    )
    monkeypatch.setattr(robosuite_macros.tempfile, "gettempdir", lambda: str(tmp_path))


def test_robosuite_has_no_log_file():
    assert robosuite.macros.FILE_LOGGING_LEVEL is None


@pytest.mark.usefixtures("no_cache_elsewhere")
def test_without_another_place_compiled_functions_are_kept_among_temporary_files(tmp_path: Path):
    assert find_cache()

    (folder,) = tmp_path.iterdir()
    assert str(folder) == numba.core.config.CACHE_DIR
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("no_cache_elsewhere")
def test_without_any_place_the_variable_is_named_and_nothing_is_kept(tmp_path: Path, caplog):
    (tmp_path / f"pi0-ript-compiled-{os.getuid()}").write_text("taken")

    assert not find_cache()
    assert "set NUMBA_CACHE_DIR" in caplog.text


def test_a_folder_that_others_could_have_prepared_is_not_used(tmp_path: Path):
    name = f"pi0-ript-compiled-{os.getuid()}"
    writable, linked, taken = (tmp_path / case for case in ("writable", "linked", "taken"))
    for parent in (writable, linked, taken):
        parent.mkdir()
    (writable / name).mkdir()
    (writable / name).chmod(0o777)
    (linked / name).symlink_to(tmp_path)
    (taken / name).write_text("")

    assert [private_folder(parent) for parent in (writable, linked, taken)] == [None] * 3
    assert private_folder(tmp_path / "no such folder") is None
