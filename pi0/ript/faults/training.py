"""A training run as a process of its own, watched from outside."""

import os
import signal
import statistics
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pi0.ript.env.pool.process_environment import simulator_command
from pi0.ript.env.pool.worker_process import Lifeline
from pi0.ript.faults.processes import (
    MARK_VARIABLE,
    MarkedProcess,
    left_segments,
    marked_processes,
    shared_segments,
)
from pi0.ript.report.jsonl import complete_lines
from pi0.ript.report.launches import LAUNCHES_NAME

PROGRAM = simulator_command(
    "pi0.ript.scripts.train_ript_pi0"
)  # nothing of the current folder is imported
LOG_NAME = "trainer.log"
ERROR_MARK = "error: "
ORPHAN_PATIENCE_S = 5.0
END_PATIENCE_S = 120.0
WARM_UP_SHARE = 0.2


class TrainingRun:
    """Starts, resumes and ends ``ript train``, and observes its processes and files.

    Example: ``with TrainingRun(folder, settings) as run: run.start(); run.wait()``.
    """

    def __init__(self, output_dir: Path, arguments: Sequence[str]) -> None:
        """Take the folder for the run directory and the settings; nothing starts yet."""
        self.output_dir = output_dir
        self.num_orphans = 0
        self._arguments = arguments
        self._mark = uuid.uuid4().hex
        self._lifeline: Lifeline | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._num_launches = 0
        self._segments: set[str] = set()
        self._trainer_rss: dict[int, list[int]] = {}
        self._workers_rss: list[int] = []

    @property
    def run_dir(self) -> Path | None:
        """Return the run directory once it has a checkpoint to resume from."""
        found = sorted(self.output_dir.glob("*/checkpoints/last"))
        return found[0].parents[1] if found else None

    @property
    def step(self) -> int:
        """Return the last training step that is saved; 0 before the first."""
        last = [int(path.resolve().name) for path in self.output_dir.glob("*/checkpoints/last")]
        return max(last, default=0)

    @property
    def workers(self) -> list[MarkedProcess]:
        """Return its simulator processes, oldest first."""
        return [process for process in marked_processes(self._mark) if process.is_worker]

    @property
    def is_up(self) -> bool:
        """Return whether the trainer runs and its simulators have worked since this start."""
        return self.is_running and self._launches() > self._num_launches

    @property
    def is_running(self) -> bool:
        """Return whether the trainer has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the run, or resume it where there is something to resume."""
        self.output_dir.mkdir(parents=True, exist_ok=True)
        run_dir = self.run_dir
        self._num_launches = self._launches()
        arguments = ("--resume", str(run_dir)) if run_dir else self._arguments
        self._lifeline = Lifeline()
        with (self.output_dir / LOG_NAME).open("ab") as log:
            self._process = subprocess.Popen(
                [*PROGRAM, *arguments],
                env={**os.environ, MARK_VARIABLE: self._mark},
                pass_fds=(self._lifeline.far_end,),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._lifeline.tie(self._process.pid)

    def kill(self) -> None:
        """Send SIGKILL to the trainer and count the processes that outlive it for too long."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Send SIGTERM to the trainer, count what outlives it, and return its exit status."""
        return self._end(signal.SIGTERM)

    def wait(self) -> int:
        """Wait for the trainer to end by itself and return its exit status."""
        while self.is_running:
            self.sample()
            time.sleep(1.0)
        return self._finish()

    def sample(self) -> None:
        """Record the memory and the shared segments of all processes."""
        self._segments |= shared_segments(self._mark)
        sizes = [process.rss_bytes for process in self.workers]
        if sizes:
            self._workers_rss.append(sum(sizes))
        for process in marked_processes(self._mark):
            if self._process is not None and process.pid == self._process.pid:
                self._trainer_rss.setdefault(process.pid, []).append(process.rss_bytes)

    @property
    def last_error(self) -> str:
        """Return the last line with which a trainer ended; the log may be in a folder that is soon gone."""
        log = self.output_dir / LOG_NAME
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in lines if line.startswith(ERROR_MARK)]
        return errors[-1].removeprefix(ERROR_MARK) if errors else f"no reason is in {log}"

    @property
    def leaked_segments(self) -> int:
        """Return how many of the shared segments ever observed are still there."""
        return len(left_segments(self._segments))

    @property
    def trainer_growth(self) -> float | None:
        """Return the relative growth of the longest trainer process after its warm-up."""
        return growth(max(self._trainer_rss.values(), key=len, default=[]))

    @property
    def workers_growth(self) -> float | None:
        """Return the relative growth of all workers together after the warm-up."""
        return growth(self._workers_rss)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_running:
            self.kill()

    def _launches(self) -> int:
        files = self.output_dir.glob(f"*/{LAUNCHES_NAME}")
        return sum(len(complete_lines(path)) for path in files)

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self.sample()
        self._process.send_signal(number)
        self._process.wait(END_PATIENCE_S)
        return self._finish()

    def _finish(self) -> int:
        assert self._process is not None
        assert self._lifeline is not None
        status = self._process.wait()
        self._lifeline.cut()
        deadline = time.monotonic() + ORPHAN_PATIENCE_S
        while (left := marked_processes(self._mark)) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.num_orphans += len(left)
        for process in left:
            os.kill(process.pid, signal.SIGKILL)
        return status


def growth(samples: Sequence[int]) -> float | None:
    """Return the relative growth from the first to the last third of samples after a warm-up.

    None where less than three samples are left after the warm-up.
    """
    steady = samples[int(WARM_UP_SHARE * len(samples)) :]
    third = len(steady) // 3
    if not third:
        return None
    return statistics.median(steady[-third:]) / statistics.median(steady[:third]) - 1.0
