"""Jobs with simulators: some at a time, and one that fails ends all."""

import subprocess
import sys

import pytest

from pi0.ript.demos import recorder
from pi0.ript.demos.recorder import run_jobs

JOBS = [{"suite": "libero_goal", "task_id": n} for n in range(3)]


def test_jobs_are_done_some_at_a_time(monkeypatch, tmp_path):
    """Every program of the test leaves a file and waits for a second one, unless it is the last."""
    script = "import pathlib, sys, time\n" + "\n".join(
        [
            f"folder, n = pathlib.Path({str(tmp_path)!r}), int(sys.argv[1])",
            "(folder / str(n)).touch()",
            "while n < 2 and len(list(folder.iterdir())) < 2: time.sleep(0.01)",
        ]
    )
    run_on(monkeypatch, script)

    run_jobs("any", JOBS, num_workers=2)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2"]


def test_a_job_that_fails_ends_the_others_and_names_its_task(monkeypatch):
    run_on(monkeypatch, "import sys, time; sys.exit(3) if sys.argv[1] == '1' else time.sleep(60)")

    with pytest.raises(ChildProcessError, match="recording libero_goal 1 ended with status 3"):
        run_jobs("any", JOBS, num_workers=2)


def run_on(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let a job be a Python script that is given the number of its task."""

    def start(module: str, job: dict) -> subprocess.Popen[bytes]:
        assert module == "any"
        return subprocess.Popen([sys.executable, "-c", script, str(job["task_id"])])

    monkeypatch.setattr(recorder, "start_simulator", start)
