"""Record the demonstrations of several tasks, a process each: ``python start.py pi0.ript.demos.recorder JSON``.

The processes are started as all simulators are; the program that starts them loads none.
"""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pi0.records import ObservationSpec
from pi0.ript.datasets.demonstrations import save_demonstrations
from pi0.ript.datasets.recorded import save_recorded
from pi0.ript.demos.settings import DemoSettings
from pi0.ript.env.libero.headless import RenderingError, require_rendering
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

    With ``every_step`` they are one per episode (``datasets.recorded``), with an image per control step.

    Raises:
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
    logger.info("recorded %d tasks in %s", len(tasks), folder)


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
    try:
        main(sys.argv[1:])
    except RenderingError as error:
        sys.exit(f"error: {error}")
