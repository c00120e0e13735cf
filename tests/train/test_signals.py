"""The real training program, stopped by real signals in every stage, goes on as if nothing had been."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.train.toy_process import (
    assert_same_run,
    finish,
    only,
    start,
    stop_at,
    two_long_steps,
)
from tests.train.toy_run import ROOT

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("line", "number", "saved"),
    [
        pytest.param("evaluate after step 0: about", signal.SIGTERM, 0, id="evaluation"),
        pytest.param("step 2/2 collect: about", signal.SIGINT, 1, id="practice"),
        # weights are on their way from step 1 to step 2, and only step 0 is on disk
        pytest.param("step 2/2 collect: done", signal.SIGTERM, 0, id="update"),
    ],
)
def test_stopped_run_says_how_to_go_on_and_ends_with_the_same_bits(
    toy_folder, undisturbed, tmp_path, line, number, saved
):
    process = start(two_long_steps(toy_folder, tmp_path), wait_s=0.03)
    said = stop_at(process, line, number)

    run_dir = only(tmp_path)
    assert process.returncode == 128 + number
    assert "Traceback" not in said
    [last] = [row for row in said.splitlines() if row.startswith("error:")]
    assert last.startswith(f"error: stopped by {number.name}; {saved} steps are saved")
    assert last.endswith(f"--resume {run_dir}")
    assert (run_dir / "checkpoints" / "last").resolve().name == str(saved)

    resumed = start(["--resume", run_dir])
    said = finish(resumed)
    assert resumed.returncode == 0, said
    assert_same_run(run_dir, undisturbed)


def test_signal_while_the_program_loads_is_one_line(toy_folder, tmp_path):
    program = ROOT / "pi0/ript/scripts/train_ript_pi0.py"
    process = subprocess.Popen(
        [sys.executable, program, *map(str, two_long_steps(toy_folder, tmp_path))],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    status = Path(f"/proc/{process.pid}/status")
    deadline = time.monotonic() + 60
    while not _handles_sigterm(status) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    said = finish(process)

    assert process.returncode == 130
    assert said == "error: stopped by SIGINT\n"
    assert not list(tmp_path.iterdir())


def _handles_sigterm(status):
    """Return whether a process has a handler of its own for SIGTERM, as Python alone has not."""
    caught = re.search(r"SigCgt:\s*(\w+)", status.read_text())
    return bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)
