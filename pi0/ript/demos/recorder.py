"""Record the demonstrations of several tasks, a process each: ``python start.py pi0.ript.demos.recorder JSON``.

The processes are started as all simulators are; the program that starts them loads none.
"""

import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pi0.records import ObservationSpec
from pi0.ript.datasets.demonstrations import save_demonstrations
from pi0.ript.demos.settings import DemoSettings
from pi0.ript.env.libero.headless import RenderingError, require_rendering
from pi0.ript.env.pool.process_environment import simulator_command, worker_environment

logger = logging.getLogger(__name__)


def record_all(
    tasks: list[tuple[str, int]],
    spec: ObservationSpec,
    settings: DemoSettings,
    folder: Path,
    num_workers: int,
) -> None:
    """Record several tasks, a process each, ``num_workers`` at a time; files are the only result.

    Raises:
        ChildProcessError: A process ended early; what it wrote says why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(tasks), num_workers):
        some = tasks[start : start + num_workers]
        processes = [_start(suite, task_id, spec, settings, folder) for suite, task_id in some]
        try:
            for (suite, task_id), process in zip(some, processes, strict=True):
                if process.wait() != 0:
                    raise ChildProcessError(
                        f"recording {suite} {task_id} ended with status {process.returncode}; see its "
                        "last line above"
                    )
        finally:
            for process in processes:
                process.kill()
    logger.info("recorded %d tasks in %s", len(tasks), folder)


def _start(
    suite: str, task_id: int, spec: ObservationSpec, settings: DemoSettings, folder: Path
) -> "subprocess.Popen[bytes]":
    job = {
        "suite": suite,
        "task_id": task_id,
        "spec": asdict(spec),
        "settings": asdict(settings),
        "folder": str(folder.absolute()),
    }
    return subprocess.Popen(
        simulator_command(__name__, json.dumps(job)), env=worker_environment(None)
    )


def main(argv: Sequence[str]) -> None:
    """Record the task that the JSON names."""
    require_rendering()
    from pi0.ript.demos.record import record_task  # noqa: PLC0415 - only where rendering works

    job = json.loads(argv[0])
    spec = ObservationSpec(**job["spec"] | {"cameras": tuple(job["spec"]["cameras"])})
    demonstrations = record_task(
        job["suite"], job["task_id"], spec, DemoSettings(**job["settings"])
    )
    save_demonstrations(demonstrations, Path(job["folder"]))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RenderingError as error:
        sys.exit(f"error: {error}")
