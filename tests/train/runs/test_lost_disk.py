"""A disk that is full, fails or may no longer be written in the middle of a step costs nothing but time."""

import os
import re

import pytest

from tests.disks import (
    fail,
    failing_disk,
    fill,
    leave_half_a_line,
    needs_root,
    repair,
    small_disk,
)
from tests.train.toy_process import (
    assert_same_run,
    ends_in_one_line,
    finish,
    last_step,
    only,
    start,
    stop_at,
    two_long_steps,
)

pytestmark = pytest.mark.slow

UPDATING = "step 2/2 collect: done"
# Root may write everywhere unless it gives that right away.
WITHOUT_RIGHTS = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
)


def goes_on_as_if_nothing_had_been(run_dir, undisturbed):
    resumed = start(["--resume", run_dir])
    said = finish(resumed)
    assert resumed.returncode == 0, said
    assert_same_run(run_dir, undisturbed)


@needs_root
@pytest.mark.parametrize(
    ("written", "pages_left"),
    [
        # Episodes come first. They take less than a page, of 250 bytes each.
        pytest.param("episodes.jsonl", 0, id="episodes"),
        pytest.param("metrics.jsonl", 1, id="metrics"),
    ],
)
def test_a_disk_without_room_for_a_line_loses_no_line(
    toy_folder, undisturbed, tmp_path, written, pages_left
):
    with small_disk(tmp_path / "disk", "5m") as disk:
        process = start(two_long_steps(toy_folder, disk / "runs"), wait_s=0.03)

        def leave_no_room():
            for name in ("episodes.jsonl", "metrics.jsonl"):
                leave_half_a_line(only(disk / "runs") / name)
            fill(disk, pages_left)

        line = ends_in_one_line(process, stop_at(process, UPDATING, then=leave_no_room))
        run_dir = only(disk / "runs")
        assert line == f"error: No space left on device: {run_dir / written}"
        # Step 1 is in the files, but only the beginning is saved: all of it is repeated.
        assert last_step(run_dir) == 0
        assert re.search(rb"\n +$", (run_dir / written).read_bytes()), "half a line stands there"

        (disk / "ballast").unlink()
        goes_on_as_if_nothing_had_been(run_dir, undisturbed)


@needs_root
def test_a_disk_that_becomes_read_only_after_an_error_loses_no_line(
    toy_folder, undisturbed, tmp_path
):
    image = tmp_path / "image"
    with failing_disk(tmp_path / "disk", image) as disk:
        process = start(two_long_steps(toy_folder, disk / "runs"), wait_s=0.03)
        said = stop_at(process, UPDATING, then=lambda: fail(disk))
        line = ends_in_one_line(process, said)
        run_dir = only(disk / "runs")
        assert line == f"error: Read-only file system: {run_dir / 'episodes.jsonl'}"
        assert last_step(run_dir) == 0

        repair(disk, image)
        goes_on_as_if_nothing_had_been(run_dir, undisturbed)


def test_a_run_that_may_no_longer_write_its_directory_goes_on_once_it_may(
    toy_folder, undisturbed, tmp_path
):
    process = start(
        two_long_steps(toy_folder, tmp_path / "runs"), wait_s=0.03, through=WITHOUT_RIGHTS
    )
    folders = []

    def forbid():
        run_dir = only(tmp_path / "runs")
        folders.extend(path for path in (run_dir, *run_dir.rglob("*")) if path.is_dir())
        for folder in folders:
            folder.chmod(0o555)

    said = stop_at(process, UPDATING, then=forbid)
    run_dir = only(tmp_path / "runs")
    line = ends_in_one_line(process, said)
    # Files that are open stay writable, so it is the checkpoint of step 2 that fails.
    assert "Permission denied" in line
    assert "checkpoints" in line
    assert last_step(run_dir) == 0

    for folder in folders:
        folder.chmod(0o755)
    goes_on_as_if_nothing_had_been(run_dir, undisturbed)
