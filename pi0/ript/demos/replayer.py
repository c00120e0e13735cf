"""Re-play LIBERO's recordings in a process of its own: ``python start.py pi0.ript.demos.replayer JSON``."""

import json
import logging
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pi0.records import ObservationSpec
from pi0.ript.datasets.hdf5 import read_actions, recordings, task_of
from pi0.ript.datasets.writer import SetLayout, require_free, write_lerobot
from pi0.ript.demos.recorder import end_in_one_line
from pi0.ript.demos.settings import ReplaySettings
from pi0.ript.env.initial_states import initial_states
from pi0.ript.env.libero.headless import require_rendering
from pi0.ript.env.pool.process_environment import simulator_command, worker_environment
from pi0.ript.env.suites import find_suite, resolve_task


def replay_all(
    path: Path, spec: ObservationSpec, settings: ReplaySettings, layout: SetLayout, folder: Path
) -> None:
    """Write what succeeds again as a LeRobotDataset; files are checked before a simulator starts.

    Raises:
        FileNotFoundError: There are no recordings.
        ValueError: One is damaged, or of another suite; or ``folder`` is not free.
        ChildProcessError: The process ended early; what it wrote says why.
    """
    files = recordings(path)
    require_free(folder)
    for file in files:
        require_of_suite(file, settings.suite)
    job = {
        "files": [str(file.absolute()) for file in files],
        "spec": asdict(spec),
        "settings": asdict(settings),
        "layout": asdict(layout),
        "folder": str(folder.absolute()),
    }
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    command = simulator_command(__name__, json.dumps(job))
    with subprocess.Popen(command, env=worker_environment(None)) as process:
        try:
            status = process.wait()
        finally:
            process.kill()
    if status != 0:
        raise ChildProcessError(
            f"re-playing {path} ended with status {status}; see its last line above"
        )


def require_of_suite(file: Path, suite: str) -> None:
    """Refuse a recording that is of no task of the suite, or of another scene.

    Raises:
        ValueError: Names file, key, value and remedy.
    """
    suite = find_suite(suite)
    try:
        task_id = resolve_task(suite, task_of(file))
    except ValueError as error:
        raise ValueError(f"{file} is not of --suite {suite}: {error}") from None
    width = initial_states(suite, task_id).shape[1]
    for demo in read_actions(file):
        if len(demo.state) != width:
            raise ValueError(
                f"{file}: data/{demo.name}/states has rows of {len(demo.state)} numbers, {suite} task {task_id} has "
                f"{width}; give the recordings of --suite {suite}"
            )


def main(argv: Sequence[str]) -> None:
    """Re-play the files that the JSON names."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    require_rendering()
    from pi0.ript.demos.replay import replay_files  # noqa: PLC0415 - only where rendering works

    job = json.loads(argv[0])
    spec = ObservationSpec(**job["spec"] | {"cameras": tuple(job["spec"]["cameras"])})
    layout = SetLayout(**job["layout"] | {"cameras": tuple(job["layout"]["cameras"])})
    files = [Path(file) for file in job["files"]]
    episodes = replay_files(files, spec, ReplaySettings(**job["settings"]))
    write_lerobot(Path(job["folder"]), episodes, layout)


if __name__ == "__main__":
    end_in_one_line(main)
