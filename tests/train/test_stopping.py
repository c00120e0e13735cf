"""The real training program, stopped by real signals in every stage, goes on as if nothing had been."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.train.toy_run import ROOT, toy_arguments, toy_policy

pytestmark = pytest.mark.slow

MACHINE_DEPENDENT = ("time/", "speed/", "memory/")
WEIGHTS = "checkpoints/2/pretrained_model/model.safetensors"
OPTIMIZER = "checkpoints/2/training_state/optimizer.safetensors"


# One core: learning threads of so small a network would only wait for each other.
ONE_CORE = ["taskset", "--cpu-list", str(max(os.sched_getaffinity(0)))]


def start(arguments, wait_s=0.0):
    return subprocess.Popen(
        [*ONE_CORE, sys.executable, "-m", "tests.train.toy_run", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "TOY_WAIT_S": str(wait_s), "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """Return what the program said; a program that hangs is killed and fails the test."""
    _, said = process.communicate(timeout=120)
    return said


def stop_at(process, line, *numbers, then=lambda: None):
    """Send the signals once the program has logged a line; return everything it said.

    ``then`` is called before them.
    """
    killer = threading.Timer(120, process.kill)
    killer.start()
    said = ""
    for text in process.stderr:
        said += text
        if re.search(line, text):
            break
    then()
    time.sleep(0.15)
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.05)
    said += finish(process)
    killer.cancel()
    return said


def only(folder):
    (run_dir,) = folder.iterdir()
    return run_dir


def figures(run_dir):
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(MACHINE_DEPENDENT)} for row in lines]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return toy_policy(tmp_path_factory.mktemp("policy"))


def arguments(policy, output_dir):
    # Many small passes: an update takes seconds, and only the first and the last step are saved by rule.
    return toy_arguments(
        policy,
        output_dir,
        algo__num_epochs=20,
        algo__lr=1e-5,
        training__save_freq=100,
        training__num_train_steps=2,
        algo__kl_stop="null",
    )


@pytest.fixture(scope="module")
def undisturbed(policy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    process = start(arguments(policy, folder))
    said = finish(process)
    assert process.returncode == 0, said
    return only(folder)


@pytest.mark.parametrize(
    ("line", "number", "saved"),
    [
        pytest.param("evaluate after step 0: about", signal.SIGTERM, 0, id="evaluation"),
        pytest.param("step 2/2 practise: about", signal.SIGINT, 1, id="practice"),
        # weights are on their way from step 1 to step 2, and only step 0 is on disk
        pytest.param("step 2/2 practise: done", signal.SIGTERM, 0, id="update"),
    ],
)
def test_stopped_run_says_how_to_go_on_and_ends_with_the_same_bits(
    policy, undisturbed, tmp_path, line, number, saved
):
    process = start(arguments(policy, tmp_path), wait_s=0.03)
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
    assert figures(run_dir) == figures(undisturbed)
    for name in (WEIGHTS, OPTIMIZER):
        assert (run_dir / name).read_bytes() == (undisturbed / name).read_bytes(), name


def test_signal_while_the_program_loads_is_one_line(policy, tmp_path):
    program = ROOT / "pi0/ript/scripts/train_ript_pi0.py"
    process = subprocess.Popen(
        [sys.executable, program, *map(str, arguments(policy, tmp_path))],
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
