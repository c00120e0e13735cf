"""Programs of the package as processes of their own, without the seconds that importing it takes.

They are forked from a server that has imported the package and never computes. That a program starts at
all, and what it does until it has, is for tests that start an interpreter.
"""

import importlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pi0.ript.scripts.exits import run_main
from tests.ranks import CONTEXT

TIMEOUT_S = 120.0


class Program:
    """A running program with what tests need of ``subprocess.Popen``; its stderr is a pipe."""

    def __init__(
        self,
        main: str,
        arguments: Sequence[str | Path],
        *,
        cwd: Path,
        stdout: Path | str = os.devnull,
        environment: Mapping[str, str] | None = None,
        core: int | None = None,
    ) -> None:
        """Start a function, ``module:function``, on one core if ``core`` names one."""
        self.args = [main, *map(str, arguments)]
        receiver, sender = CONTEXT.Pipe(duplex=False)
        rest = (self.args, cwd, stdout, sender, dict(environment or {}), core)
        self._process: Any = CONTEXT.Process(target=_run, args=rest)
        self._process.start()
        sender.close()
        self.stderr = os.fdopen(os.dup(receiver.fileno()), encoding="utf-8")
        receiver.close()

    @property
    def returncode(self) -> int | None:
        """The exit status, a signal's number below 0, or None while the program runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal unless the program has ended."""
        if self.returncode is None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Kill the program."""
        self._process.kill()

    def communicate(self, timeout: float = TIMEOUT_S) -> tuple[None, str]:
        """Return (None, the rest of its stderr) once it has ended.

        Raises:
            TimeoutExpired: It did not end in time and was killed.
        """
        is_late = threading.Event()
        killer = threading.Timer(timeout, lambda: (is_late.set(), self.kill()))
        killer.start()
        with self.stderr:
            text = self.stderr.read()
        self._process.join()
        killer.cancel()
        if is_late.is_set():
            raise subprocess.TimeoutExpired(self.args, timeout)
        return None, text


def run_program(
    main: str,
    arguments: Sequence[str | Path],
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT_S,
) -> subprocess.CompletedProcess[str]:
    """Run a function, ``module:function``, as the program it is and return how it ended."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as out:
        program = Program(main, arguments, cwd=cwd, stdout=out.name, environment=environment)
        _, text = program.communicate(timeout)
        return subprocess.CompletedProcess(program.args, program.returncode or 0, out.read(), text)


def _run(
    command: list[str],
    cwd: Path,
    stdout: Path | str,
    stderr: Any,
    environment: dict[str, str],
    core: int | None,
) -> None:
    os.dup2(os.open(stdout, os.O_WRONLY), sys.stdout.fileno())
    os.dup2(stderr.fileno(), sys.stderr.fileno())
    stderr.close()
    os.environ |= environment
    os.chdir(cwd)
    if core is not None:
        os.sched_setaffinity(0, {core})
    sys.argv = command
    module, _, function = command[0].partition(":")
    run_main(getattr(importlib.import_module(module), function), command[1:])
