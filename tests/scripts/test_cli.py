"""``ript``: one program, many commands."""

import subprocess
import sys

import pytest

from pi0.ript.scripts.cli import COMMANDS, dispatch


def test_as_a_module_it_is_the_same_program():
    done = subprocess.run(
        [sys.executable, "-m", "pi0.ript.scripts.cli", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.startswith("usage: ript COMMAND")
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


def test_an_unknown_command_is_told_which_there_are():
    with pytest.raises(ValueError, match=r"unknown command 'evel'; allowed: .*eval"):
        dispatch(["evel"])
