"""Whole training runs with injected faults: they lose nothing, and too many faults end them in order."""

import json
import os
import signal
import time

import pytest

from pi0.ript.faults.soak import soak
from pi0.ript.faults.training import TrainingRun
from pi0.ript.scripts.soak import DEFAULT_CONFIG, fault_counts, main, parse
from tests.policy_parts import raises_one_line

SMALL = [
    "--task.max_episode_length=10",
    "--task.num_parallel_envs=2",
    "--env.num_workers=1",
    "--algo.rloo_batch_size=2",
    "--algo.demo_batch_size=1",
    "--logging.tensorboard=false",
]


def test_the_numbers_of_faults_grow_with_the_minutes_unless_they_are_given():
    arguments, settings = parse(["--minutes=30", "--json=x", "--stops=2", "--algo.lr=1e-4"])

    assert fault_counts(arguments) == {"kill": 100, "stop": 2, "corrupt": 15, "trainer_kill": 0}
    assert settings == [DEFAULT_CONFIG, "--algo.lr=1e-4"]


@pytest.mark.parametrize("chosen", [["quickstart"], ["--config_path", "my.yaml"]])
def test_a_configuration_is_chosen_as_in_training(tmp_path, monkeypatch, chosen):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text("exp_name: mine\n")
    _, settings = parse(["--minutes=1", "--json=x", *chosen, "--algo.lr", "1e-4"])

    assert settings == [*chosen, "--algo.lr", "1e-4"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--minutes=0"], r"--minutes must be finite and > 0, got 0\.0"),
        (["--minutes=inf"], "--minutes must be finite and > 0, got inf"),
        (["--minutes=1", "--kills=-1"], "--kills must be >= 0, got -1"),
        (["--minutes=1", "--polcy_path=x"], "polcy_path.*policy_path"),
        (["--minutes=1", "--algo.lr=-1"], r"algo\.lr must be > 0"),
        (["--minutes=1", "--check"], "--check is for ript train"),
        (["--minutes=1", "--resume", "run"], "--resume is for ript train"),
    ],
)
def test_an_impossible_soak_is_refused(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message) as refused:
        parse([f"--json={tmp_path / 'new/x'}", *wrong])
    assert raises_one_line(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_refused_before_both_runs(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"--json .* is a folder; name a file"):
        parse(["--minutes=1", f"--json={tmp_path}"])
    with pytest.raises(OSError, match=r"--json .*file/x cannot be written") as refused:
        parse(["--minutes=1", f"--json={tmp_path / 'file/x'}"])
    assert raises_one_line(refused.value)

    parse(["--minutes=1", f"--json={tmp_path / 'new/x'}"])
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize("name", ["disturbed", "undisturbed"])
def test_a_folder_with_an_earlier_soak_is_refused_with_what_to_type(tmp_path, name):
    (tmp_path / name).mkdir()

    with pytest.raises(ValueError, match="holds an earlier soak") as refused:
        parse(["--minutes=1", f"--json={tmp_path / 'x'}", f"--output_dir={tmp_path}"])
    assert raises_one_line(refused.value, f"with: rm -r {tmp_path / name}")


@pytest.mark.slow
def test_a_trainer_that_cannot_start_ends_the_soak_with_its_reason(tmp_path):
    settings = [DEFAULT_CONFIG, "--policy_path=nowhere"]

    with pytest.raises(OSError, match=r"ended with status 2: .*nowhere") as refused:
        soak(tmp_path, settings, plan=[], minutes=60)
    assert raises_one_line(refused.value)


@pytest.mark.libero
@pytest.mark.slow
@pytest.mark.alone
def test_a_short_soak_loses_nothing(tmp_path):
    file = tmp_path / "soak.json"
    faults = ["--kills=1", "--stops=0", "--corruptions=1", "--trainer_kills=1"]

    status = main(["--minutes=0.3", f"--json={file}", *faults, *SMALL])

    report = json.loads(file.read_text())
    assert status == 0, report
    assert (report["kills"], report["corruptions"], report["trainer_kills"]) == (1, 1, 1)
    assert report["num_episodes"] >= 2
    for damage in ("lost_episodes", "repeated_episodes", "differing_episodes", "differing_metrics",
                   "differing_weights", "orphans", "leaked_segments", "unexpected_exits"):  # fmt: skip
        assert report[damage] == 0, damage


@pytest.mark.libero
@pytest.mark.slow
def test_more_restarts_than_allowed_save_the_run_and_end_it_in_one_line(tmp_path):
    settings = [DEFAULT_CONFIG, f"--output_dir={tmp_path}", *SMALL]
    with TrainingRun(tmp_path, [*settings, "--env.max_restarts=0"]) as run:
        run.start()
        while not (run.is_up and run.workers):
            assert run.is_running, (tmp_path / "trainer.log").read_text()
            time.sleep(0.1)
        os.kill(run.workers[0].pid, signal.SIGKILL)
        status = run.wait()

    log = (tmp_path / "trainer.log").read_text()
    assert status == 2
    assert run.run_dir is not None, "nothing was saved"
    assert "Traceback" not in log
    [line] = [line for line in log.splitlines() if line.startswith("error: ")]
    assert "env.max_restarts allows 0; the last one in libero_goal task 7, state" in line
    assert "ended (SIGKILL)" in line
    assert run.num_orphans == run.leaked_segments == 0
