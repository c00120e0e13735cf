"""A process does not outlive the one that holds its lifeline, whatever either of them is doing."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from pi0.ript.env.pool.worker_process import Lifeline

OWNER = """
import os, signal, subprocess, sys, threading, time
from pi0.ript.env.pool.worker_process import Lifeline

def start(signals):
    line = Lifeline()
    code = "import time\\nwhile True: time.sleep(0.01)"
    child = subprocess.Popen(
        [sys.executable, "-c", code], pass_fds=(line.far_end,), start_new_session=True
    )
    line.tie(child.pid)
    for number in signals:
        child.send_signal(number)
    print(child.pid, flush=True)
    lines.append(line)

lines = []
# The thread that starts a child may end before the child does.
starter = threading.Thread(target=start, args=([],))
starter.start()
starter.join()
start([signal.SIGSTOP])
time.sleep(60)
"""


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def owner():
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER)], stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process
        process.kill()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_children_end_with_their_owner_even_while_they_are_stopped(owner, end):
    children = [int(owner.stdout.readline()) for _ in range(2)]
    time.sleep(0.2)
    assert all(is_running(pid) for pid in children)

    os.kill(owner.pid, end)

    deadline = time.monotonic() + 5.0
    while any(is_running(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(is_running(pid) for pid in children)


def test_a_cut_lifeline_ends_the_child_and_closes_no_other_file():
    line = Lifeline()
    child = subprocess.Popen([sys.executable, "-c", "input()"], pass_fds=(line.far_end,),
                             stdin=subprocess.PIPE)  # fmt: skip
    line.tie(child.pid)
    with child:
        line.cut()
        assert child.wait(timeout=5) == -signal.SIGKILL
        newest = os.dup(0)  # takes the number that the lifeline had
        line.cut()
        os.fstat(newest)
        os.close(newest)
