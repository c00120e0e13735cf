"""A disk that fills up ends a run in one line; the run goes on from it."""

import json

import pytest

from pi0.ript.train.checkpoint import find_last, load_training_state
from tests.disks import needs_root, remount, small_disk
from tests.train.test_stopping import finish, only, start, stop_at
from tests.train.toy_run import toy_arguments, toy_policy

pytestmark = [pytest.mark.slow, needs_root]


def ends_in_one_line(process, said):
    """Return the line of a run that could not write, after a look at its last checkpoint."""
    assert process.returncode == 2, said
    assert "Traceback" not in said
    [line] = [row for row in said.splitlines() if row.startswith("error:")]
    return line


def last_step(run_dir):
    last = find_last(run_dir)
    assert (run_dir / "checkpoints" / "last").resolve() == last.resolve()
    assert load_training_state(last).step == int(last.name)
    return int(last.name)


def goes_on(run_dir, num_steps):
    resumed = start(["--resume", run_dir])
    said = finish(resumed)
    assert resumed.returncode == 0, said
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, num_steps + 1))


def test_a_disk_that_fills_up_during_a_checkpoint_leaves_the_one_before(tmp_path):
    # A checkpoint takes 0.5 MB; three are kept, so the disk of 2 MB is full before the run ends.
    policy = toy_policy(tmp_path / "policy")
    with small_disk(tmp_path / "disk", "2m") as disk:
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
    ("when", "filmed"),
    [
        pytest.param("evaluate after step 0: about", 0, id="evaluation"),
        pytest.param("evaluate after step 0: about", 2, id="films"),
    ],
)
def test_a_disk_without_a_byte_left_ends_whatever_is_written_next(tmp_path, when, filmed):
    policy = toy_policy(tmp_path / "policy")
    with small_disk(tmp_path / "disk", "4m") as disk:
        arguments = toy_arguments(
            policy, disk / "runs", training__num_train_steps=2, evaluation__save_videos=filmed
        )
        process = start(arguments, wait_s=0.05)
        line = ends_in_one_line(process, stop_at(process, when, then=lambda: fill(disk)))
        assert "No space left on device" in line or "cannot write film" in line
        assert last_step(only(disk / "runs")) == 0

        (disk / "ballast").unlink()
        goes_on(only(disk / "runs"), num_steps=2)


def fill(disk):
    with (disk / "ballast").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return
