"""A whole run with too little memory warns, drops scenes and ends in one line; with more it goes on."""

import json
import re

import pytest

from tests.train.toy_process import (
    assert_same_run,
    ends_in_one_line,
    finish,
    last_step,
    only,
    start,
    two_long_steps,
)

pytestmark = pytest.mark.slow

WARNING = r"memory is short: trainer [\d.]+ GB, 1 workers 0\.3 GB, .*; dropping cached scenes"


def run_within(toy_folder, folder, undisturbed, beside_trainer_gb):
    """Run with 0.3 GB of scenes and so much memory beside that of the trainer."""
    [*_, last] = (undisturbed / "metrics.jsonl").read_text().splitlines()
    limit_gb = json.loads(last)["memory/trainer_gb"] + beside_trainer_gb
    return start(
        two_long_steps(toy_folder, folder, training__memory_limit_gb=limit_gb),
        wait_s=0.1,
        TOY_SCENES_MB="300",
    )


def test_too_little_memory_ends_a_run_that_goes_on_with_more(toy_folder, undisturbed, tmp_path):
    # 0.35 - 0.3 GB are left before the scenes are dropped, 0.35 GB afterwards: still below 0.5 GB.
    process = run_within(toy_folder, tmp_path, undisturbed, 0.35)
    said = finish(process)
    line = ends_in_one_line(process, said)

    run_dir = only(tmp_path)
    assert len(re.findall(WARNING, " ".join(said.split()))) == 1
    assert re.search(r"the run ends before the memory does: .* 1 workers 0\.0 GB, 0\.\d GB", line)
    assert "raise training.memory_limit_gb" in line
    assert last_step(run_dir) < 2

    resumed = start(["--resume", run_dir, "--training.memory_limit_gb=auto"])
    said = finish(resumed)
    assert resumed.returncode == 0, said
    assert_same_run(run_dir, undisturbed)


def test_memory_of_dropped_scenes_is_enough_to_go_on(toy_folder, undisturbed, tmp_path):
    # 0.9 - 0.3 GB are left before, 0.9 GB afterwards: below 1 GB, where scenes are dropped, but enough.
    process = run_within(toy_folder, tmp_path, undisturbed, 0.9)
    said = finish(process)
    assert process.returncode == 0, said

    assert len(re.findall(WARNING, " ".join(said.split()))) == 1
    assert_same_run(only(tmp_path), undisturbed)
