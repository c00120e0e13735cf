"""Whole training runs with injected faults: they lose nothing, and too many faults end them in order."""

import json
import os
import signal
import time

import pytest

from pi0.ript.faults.training import TrainingRun
from pi0.ript.scripts.soak import DEFAULT_CONFIG, fault_counts, main, parse

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
def test_a_configuration_is_chosen_as_in_training(chosen):
    _, settings = parse(["--minutes=1", "--json=x", *chosen, "--algo.lr", "1e-4"])

    assert settings == [*chosen, "--algo.lr", "1e-4"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--minutes=0"], r"--minutes must be > 0, got 0\.0"),
        (["--minutes=1", "--kills=-1"], "--kills must be >= 0, got -1"),
    ],
)
def test_an_impossible_soak_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        parse(["--json=x", *wrong])


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
