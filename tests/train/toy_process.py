"""Runs of the toy as processes: start them, disturb them, compare what they leave behind."""

import os
import re
import subprocess
import sys
import threading
import time

from pi0.ript.train.checkpoints.folder import load_training_state
from pi0.ript.train.checkpoints.store import find_last
from tests.cores import own_core
from tests.programs import Program
from tests.train.toy_run import ROOT, toy_arguments
from tests.train.toy_training import repeatable_metrics

WEIGHTS = "checkpoints/2/pretrained_model/model.safetensors"
OPTIMIZER = "checkpoints/2/training_state/optimizer.safetensors"


def start(arguments, wait_s=0.0, through=(), **environment):
    """Start the program; ``through`` is a command that starts it, ``environment`` is added to ours."""
    environment |= {"TOY_WAIT_S": str(wait_s)}
    core = own_core()  # learning threads of so small a network would only wait for each other
    if not through:
        return Program(
            "tests.train.toy_run:main", arguments, cwd=ROOT, environment=environment, core=core
        )
    pinned = ["taskset", "--cpu-list", str(core), *through]
    return subprocess.Popen(
        [*pinned, sys.executable, "-m", "tests.train.toy_run", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
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


def ends_in_one_line(process, said):
    """Return the line of a run that something of the machine has ended."""
    assert process.returncode == 2, said
    assert "Traceback" not in said
    [line] = [row for row in said.splitlines() if row.startswith("error:")]
    return line


def last_step(run_dir):
    """Return the step of the newest checkpoint, after a look at every file of it."""
    last = find_last(run_dir)
    assert (run_dir / "checkpoints" / "last").resolve() == last.resolve()
    assert load_training_state(last).step == int(last.name)
    return int(last.name)


def only(folder):
    (run_dir,) = folder.iterdir()
    return run_dir


def assert_same_run(run_dir, undisturbed):
    """Compare all that does not depend on the machine: metrics, episodes, weights, optimizer."""
    assert repeatable_metrics(run_dir) == repeatable_metrics(undisturbed)
    for name in ("episodes.jsonl", WEIGHTS, OPTIMIZER):
        assert (run_dir / name).read_bytes() == (undisturbed / name).read_bytes(), name


def two_long_steps(policy, output_dir, **overrides):
    """Return the command line of a run with time to break it in every stage."""
    # Many small passes: an update takes seconds, and only the first and the last step are saved by rule.
    return toy_arguments(
        policy,
        output_dir,
        algo__num_epochs=20,
        algo__lr=1e-5,
        training__save_freq=100,
        training__num_train_steps=2,
        algo__kl_stop="null",
        **overrides,
    )
