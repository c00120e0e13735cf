"""A disk that fills up ends a run in one line; the run goes on from it."""

import json
import re

import pytest

from tests.disks import fill, needs_root, remount, small_disk
from tests.train.toy_process import ends_in_one_line, finish, last_step, only, start, stop_at
from tests.train.toy_run import toy_arguments, toy_policy

pytestmark = [pytest.mark.slow, needs_root]


def goes_on(run_dir, num_steps):
    resumed = start(["--resume", run_dir])
    said = finish(resumed)
    assert resumed.returncode == 0, said
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, num_steps + 1))


def test_a_disk_that_fills_up_during_a_checkpoint_leaves_the_one_before(tmp_path):
    # A checkpoint takes 0.24 MB and all are kept, so that a disk of 1 MB is full before the run ends.
    policy = toy_policy(tmp_path / "policy")
    with small_disk(tmp_path / "disk", "1m") as disk:
        process = start(
            toy_arguments(
                policy, disk, training__num_train_steps=8, training__save_freq=1,
                training__keep_checkpoints=20, evaluation__rollouts_per_task=0,
            )
        )  # fmt: skip
        line = ends_in_one_line(process, finish(process))
        assert "No space left on device" in line
        assert last_step(only(disk)) >= 1

        remount(disk, "size=20m")
        goes_on(only(disk), num_steps=8)


@pytest.mark.parametrize(
    ("recorded", "written"),
    [
        pytest.param(0, r"No space left on device: .*/evaluations/rollouts_step_0", id="actions"),
        pytest.param(2, r"cannot write video .*/videos/step_0/", id="videos"),
    ],
)
def test_a_disk_without_a_byte_left_ends_whatever_is_written_next(tmp_path, recorded, written):
    policy = toy_policy(tmp_path / "policy")
    with small_disk(tmp_path / "disk", "4m") as disk:
        arguments = toy_arguments(
            policy, disk / "runs", training__num_train_steps=2, evaluation__save_videos=recorded
        )
        process = start(arguments, wait_s=0.05)
        said = stop_at(process, "evaluate after step 0: about", then=lambda: fill(disk))
        assert re.search(written, ends_in_one_line(process, said))
        assert last_step(only(disk / "runs")) == 0

        (disk / "ballast").unlink()
        goes_on(only(disk / "runs"), num_steps=2)
