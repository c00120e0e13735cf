"""Record the demonstrations of several tasks, a process each: ``python start.py pi0.ript.demos.recorder JSON``.

The processes are started as all simulators are; the program that starts them loads none.
"""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pi0.records import ObservationSpec
from pi0.ript.datasets.demonstrations import read_num_successes, save_demonstrations
from pi0.ript.datasets.recorded import save_recorded
from pi0.ript.demos.settings import DemoSettings
from pi0.ript.env.libero.headless import require_rendering
from pi0.ript.env.pool.process_environment import simulator_command, worker_environment

logger = logging.getLogger(__name__)

POLL_S = 0.1


def record_all(
    tasks: list[tuple[str, int]],
    spec: ObservationSpec,
    settings: DemoSettings,
    folder: Path,
    num_workers: int,
    *,
    every_step: bool = False,
) -> None:
    """Record several tasks, a process each, ``num_workers`` at a time; files are the only result.

    With ``every_step`` they are one per episode (``datasets.recorded``), with an image per control step. Tasks of
    which fewer episodes were kept than wanted are named in one warning.

    Raises:
        ValueError: No episode of any task was kept.
        ChildProcessError: A process ended early; what it wrote says why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    common = {
        "spec": asdict(spec),
        "settings": asdict(settings),
        "folder": str(folder.absolute()),
        "every_step": every_step,
    }
    jobs = [{"suite": suite, "task_id": task_id, **common} for suite, task_id in tasks]
    run_jobs(__name__, jobs, num_workers)
    num_kept = {task: _num_kept(folder, *task, every_step=every_step) for task in tasks}
    report_missing(num_kept, settings)
    logger.info("recorded %d tasks in %s", len(tasks), folder)


def _num_kept(folder: Path, suite: str, task_id: int, *, every_step: bool) -> int:
    if every_step:
        return len(list(folder.glob(f"{suite}_{task_id:03d}_*.safetensors")))
    return read_num_successes(folder, suite, task_id)


def report_missing(num_kept: Mapping[tuple[str, int], int], settings: DemoSettings) -> None:
    """Name in one warning the tasks of which fewer episodes were kept than wanted.

    Raises:
        ValueError: None was kept of any task.
    """
    remedy = f"raise --max_attempts ({settings.max_attempts}) or lower --action_noise ({settings.action_noise})"
    if not any(num_kept.values()):
        names = ", ".join(f"{suite}/{task_id}" for suite, task_id in num_kept)
        raise ValueError(f"the experts never succeeded, so nothing is kept of {names}; {remedy}")
    wanted = settings.per_task
    missing = {task: count for task, count in num_kept.items() if count < wanted}
    if missing:
        counts = ", ".join(f"{suite}/{task} {count}" for (suite, task), count in missing.items())
        logger.warning("fewer than %d successes are kept of: %s; %s", wanted, counts, remedy)


def run_jobs(module: str, jobs: Sequence[Mapping[str, Any]], num_workers: int) -> None:
    """Do jobs, each about one task, in processes with simulators, ``num_workers`` at a time.

    Raises:
        ChildProcessError: A process ended early; what it wrote says why.
    """
    waiting = list(reversed(jobs))
    running: dict[subprocess.Popen[bytes], Mapping[str, Any]] = {}
    try:
        while waiting or running:
            if waiting and len(running) < num_workers:
                job = waiting.pop()
                running[start_simulator(module, job)] = job
                continue
            time.sleep(POLL_S)
            for process in [process for process in running if process.poll() is not None]:
                job = running.pop(process)
                if process.returncode != 0:
                    raise ChildProcessError(
                        f"recording {job['suite']} {job['task_id']} ended with status {process.returncode}; see its "
                        "last line above"
                    )
    finally:
        for process in running:
            process.kill()
            process.wait()


def start_simulator(module: str, job: Mapping[str, Any]) -> "subprocess.Popen[bytes]":
    """Start a module of this package as a program with simulators, its job as JSON."""
    return subprocess.Popen(
        simulator_command(module, json.dumps(job)), env=worker_environment(None)
    )


def end_in_one_line(main: Callable[[Sequence[str]], None]) -> None:
    """Run the ``main`` of a process with simulators; what goes wrong is one line, to which its parent refers.

    Simulators raise ``RuntimeError``, diverged physics among them. ``RIPT_TRACEBACK=1`` shows where.

    Raises:
        SystemExit: With the line, which makes the status 1.
    """
    try:
        main(sys.argv[1:])
    except (ValueError, RuntimeError, OSError) as error:  # RenderingError is an OSError
        if os.environ.get("RIPT_TRACEBACK"):
            raise
        sys.exit("error: " + (" ".join(str(error).split()) or type(error).__name__))


def main(argv: Sequence[str]) -> None:
    """Record the task that the JSON names."""
    require_rendering()
    from pi0.ript.demos.record import (  # noqa: PLC0415 - only where rendering works
        record_task,
        recorded_episodes,
    )

    job = json.loads(argv[0])
    spec = ObservationSpec(**job["spec"] | {"cameras": tuple(job["spec"]["cameras"])})
    settings, folder = DemoSettings(**job["settings"]), Path(job["folder"])
    if not job["every_step"]:
        save_demonstrations(record_task(job["suite"], job["task_id"], spec, settings), folder)
        return
    episodes = recorded_episodes(job["suite"], job["task_id"], spec, settings)
    for number, episode in enumerate(episodes):
        name = f"{episode.suite}_{episode.task_id:03d}_{number:05d}.safetensors"
        save_recorded(episode, folder / name)


if __name__ == "__main__":
    end_in_one_line(main)
