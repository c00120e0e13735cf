"""What Ray would hand on from the program that connects to it: paths and variables, held back for that moment."""

import os
import sys
from pathlib import Path

from pi0.ript.env.ray.surroundings import import_path, no_local_imports, only_needed_variables


def test_neither_the_current_folder_nor_that_of_the_script_is_on_the_path(
    tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "own/train.py")])
    monkeypatch.syspath_prepend(str(tmp_path / "own"))
    paths = list(sys.path)

    with no_local_imports():
        assert Path.cwd() == Path("/")
        assert str(tmp_path / "own") not in sys.path

    assert (Path.cwd(), sys.path) == (tmp_path, paths)


def test_keys_are_hidden_and_come_back(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    before = dict(os.environ)

    with only_needed_variables():
        assert "OPENAI_API_KEY" not in os.environ
        assert os.environ["RAY_TMPDIR"] == "/tmp"
        os.environ["RAY_SET_BY_RAY"] = "1"

    assert dict(os.environ) == before | {"RAY_SET_BY_RAY": "1"}
    monkeypatch.delenv("RAY_SET_BY_RAY")


def test_the_import_path_of_actors_holds_our_package_alone(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "/elsewhere"]))

    [ours, theirs] = import_path(tmp_path)["PYTHONPATH"].split(os.pathsep)

    assert [path.name for path in Path(ours).iterdir()] == ["pi0"]
    assert theirs == "/elsewhere"
    assert import_path(tmp_path)["PYTHONPATH"].startswith(ours)
