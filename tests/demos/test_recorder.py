"""Jobs with simulators: some at a time, and one that fails ends all."""

import subprocess
import sys
from collections.abc import Sequence

import pytest

from pi0.ript.demos import recorder
from pi0.ript.demos.recorder import end_in_one_line, report_missing, run_jobs
from pi0.ript.demos.settings import DemoSettings
from tests.policy_parts import raises_one_line

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


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, OSError])
def test_whatever_goes_wrong_in_a_process_is_one_line_unless_a_traceback_is_wanted(
    monkeypatch, kind
):
    def fail(_: Sequence[str]) -> None:
        raise kind("the disk\nis full")

    monkeypatch.delenv("RIPT_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as ended:
        end_in_one_line(fail)
    assert ended.value.code == "error: the disk is full"

    monkeypatch.setenv("RIPT_TRACEBACK", "1")
    with pytest.raises(kind, match="the disk"):
        end_in_one_line(fail)


def test_tasks_with_fewer_episodes_than_wanted_are_named_in_one_warning(caplog):
    settings = DemoSettings(per_task=3, max_attempts=8)

    report_missing({("libero_goal", 1): 3, ("libero_goal", 2): 0, ("libero_goal", 7): 2}, settings)

    [message] = caplog.messages
    assert message == (
        "fewer than 3 successes are kept of: libero_goal/2 0, libero_goal/7 2; raise --max_attempts (8) or lower "
        "--action_noise (0.3)"
    )


def test_nothing_kept_of_any_task_is_refused_in_one_line():
    with pytest.raises(ValueError, match="never succeeded") as refused:
        report_missing({("libero_goal", 1): 0, ("libero_goal", 7): 0}, DemoSettings())
    assert raises_one_line(refused.value, "libero_goal/1, libero_goal/7", "--max_attempts (100)")


def run_on(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let a job be a Python script that is given the number of its task."""

    def start(module: str, job: dict) -> subprocess.Popen[bytes]:
        assert module == "any"
        return subprocess.Popen([sys.executable, "-c", script, str(job["task_id"])])

    monkeypatch.setattr(recorder, "start_simulator", start)
