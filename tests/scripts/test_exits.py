"""A program ends with one line for the user's mistakes and a traceback for ours."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from pi0.ript.config.load import load_config
from pi0.ript.config.schema import EnvConfig
from pi0.ript.scripts.exits import one_line, run_main

PROGRAM = """
import os, sys
from pi0.ript.scripts import cli
from pi0.ript.scripts import exits

def main(argv):
    # The library that torch computes with reads the variable when it is loaded, and only then.
    print("torch" in sys.modules, os.environ["OMP_WAIT_POLICY"])

exits.run_main(main, [])
"""


@pytest.mark.parametrize(
    ("given", "used"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")]
)
def test_threads_sleep_unless_the_environment_says_otherwise(given, used):
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | given
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout == f"False {used}\n"


def leave(main, argv=()):
    with pytest.raises(SystemExit) as left:
        run_main(main, argv)
    return left.value.code


def raising(error):
    def main(_argv):
        raise error

    return main


def test_success_is_zero():
    assert leave(lambda argv: None) == 0
    assert leave(lambda argv: 3) == 3


def test_wrong_setting_is_one_line_and_two(capsys):
    assert leave(load_config, ["--config_path", "nowhere.yaml"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: configuration file not found: nowhere.yaml")


def test_full_disk_names_the_file(capsys):
    assert leave(raising(OSError(28, "No space left on device", "outputs/x"))) == 2
    assert capsys.readouterr().err == "error: No space left on device: outputs/x\n"


def test_error_of_several_lines_becomes_one():
    assert one_line(ValueError("first\n  second")) == "first second"


def test_value_error_from_inside_a_library_keeps_its_traceback():
    with pytest.raises(ValueError, match="invalid width"):
        run_main(lambda argv: len(textwrap.wrap("text", width=0)), ())


@pytest.mark.parametrize(
    "slip", [lambda: min([]), lambda: np.ones(2) + np.ones(3), lambda: int("x")]
)
def test_value_error_from_code_without_frames_keeps_its_traceback(slip, monkeypatch):
    # Built-ins leave no frame of their own: the innermost one is ours, but it raised nothing.
    monkeypatch.setitem(globals(), "__name__", "__main__")
    with pytest.raises(ValueError, match=r"empty|broadcast|invalid"):
        run_main(lambda argv: slip(), ())


def test_check_of_a_dataclass_is_one_line(capsys):
    assert leave(lambda argv: EnvConfig(num_workers=0)) == 2
    assert capsys.readouterr().err.startswith("error: env.num_workers must be")


def test_error_put_into_our_words_is_one_line(capsys):
    assert leave(load_config, ["--training.lr", "fast"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_traceback_can_be_asked_for(monkeypatch):
    monkeypatch.setenv("RIPT_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError):
        run_main(load_config, ["--config_path", "nowhere.yaml"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_signal_is_one_line_without_a_traceback(number, capsys):
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert leave(lambda argv: signal.raise_signal(number)) == 128 + number
    finally:
        for n, handler in handlers.items():
            signal.signal(n, handler)
    assert capsys.readouterr().err == f"error: stopped by {number.name}\n"


def test_signal_handler_is_given_back():
    earlier = signal.getsignal(signal.SIGTERM)
    leave(lambda argv: None)
    assert signal.getsignal(signal.SIGTERM) is earlier


def test_sigterm_cleans_up_and_is_no_success():
    program = """
    import os, signal, time
    from pi0.ript.scripts.exits import run_main

    def main(argv):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
        finally:
            print("cleaned up")

    run_main(main, [])
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stdout) == (143, "cleaned up\n")
    assert result.stderr == "error: stopped by SIGTERM\n"


def test_second_signal_ends_the_program_at_once():
    program = """
    import os, signal, time
    from pi0.ript.scripts.exits import run_main

    def main(argv):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
            print("cleaned up")

    run_main(main, [])
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert (result.returncode, result.stdout) == (143, "")
    assert result.stderr == "error: ended at once by SIGTERM\n"
