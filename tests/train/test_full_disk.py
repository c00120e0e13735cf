"""A disk that fills up ends a run in one line; what was saved before is whole, and the run goes on."""

import os
import subprocess

import pytest

from pi0.ript.train.checkpoint import find_last, load_training_state
from tests.train.test_stopping import finish, only, start
from tests.train.toy_run import toy_arguments, toy_policy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root"),
]


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.decode()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_fills_up_during_a_run_leaves_the_last_checkpoint(small_disk, tmp_path):
    # A checkpoint takes 0.5 MB; three are kept, so the disk of 2 MB is full before the run ends.
    policy = toy_policy(tmp_path / "policy")
    arguments = toy_arguments(
        policy, small_disk, training__num_train_steps=8, training__save_freq=1,
        training__keep_checkpoints=20, evaluation__rollouts_per_task=0,
    )  # fmt: skip
    process = start(arguments)
    said = finish(process)

    assert process.returncode == 2, said
    assert "Traceback" not in said
    [line] = [row for row in said.splitlines() if row.startswith("error:")]
    assert "No space left on device" in line
    run_dir = only(small_disk)
    last = find_last(run_dir)
    assert (run_dir / "checkpoints" / "last").resolve() == last.resolve()
    assert load_training_state(last).step == int(last.name)

    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    resumed = start(["--resume", run_dir])
    said = finish(resumed)
    assert resumed.returncode == 0, said
