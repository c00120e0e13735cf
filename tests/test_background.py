"""What is computed beside the program arrives, raises where it is wanted, and holds nobody up."""

import subprocess
import sys
from threading import Event

import pytest

from pi0.background import in_background


def test_the_result_is_there_once_it_is_computed():
    begun, may_end = Event(), Event()

    def compute() -> int:
        begun.set()
        may_end.wait()
        return 7

    future = in_background(compute)
    assert begun.wait(10)
    assert not future.done()
    may_end.set()
    assert future.result(10) == 7


def test_an_error_is_raised_where_the_result_is_wanted():
    def compute() -> None:
        raise ValueError("a file has changed")

    future = in_background(compute)
    with pytest.raises(ValueError, match="a file has changed"):
        future.result(10)


def test_a_program_ends_without_waiting():
    program = (
        "import time; from pi0.background import in_background; "
        "in_background(lambda: time.sleep(600))"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert done.returncode == 0
