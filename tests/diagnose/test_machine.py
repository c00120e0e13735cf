"""Too little memory, shared memory or disk is found before a run finds it."""

import resource
import signal
from pathlib import Path

import pytest

from pi0.ript.diagnose.machine import check_disk, check_memory, check_shared_memory
from tests.diagnose.damage import findings_of, mountable

__all__ = ["mountable"]


def test_a_full_size_shared_memory_is_ok(tmp_path: Path):
    # A folder on disk has room; what the file system is does not matter.
    assert check_shared_memory(tmp_path).status == "ok"


@pytest.mark.parametrize(("size", "status"), [("1m", "error"), ("256m", "warning")])
def test_small_shared_memory_is_found_with_the_command_that_enlarges_it(mountable, size, status):
    (finding,) = findings_of("[machine.check_shared_memory()]", mount=(size, Path("/dev/shm")))

    assert finding["status"] == status
    assert finding["text"].startswith(f"{size[:-1]} MiB free in /dev/shm")
    assert "--shm-size" in finding["fix"]


def test_no_disk_is_found(mountable: Path):
    expression = f"[machine.check_disk(Path('{mountable}/outputs'), 10**6)]"

    (full,) = findings_of(expression, mount=("512k", mountable))
    (small,) = findings_of(expression, mount=("8m", mountable))
    (scarce,) = findings_of(expression, mount=("100m", mountable))

    # A megabyte cannot be written; then 12 MB per checkpoint do not fit; then three of them do.
    assert (full["status"], small["status"], scarce["status"]) == ("error", "error", "warning")
    assert "cannot be written: No space left on device" in full["text"]
    assert "a checkpoint takes up to 0.01 GB" in small["text"]
    assert full["fix"] == "free disk space or choose another output_dir"


def test_a_limit_on_the_size_of_files_is_found_without_root(tmp_path: Path):
    earlier = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, earlier[1]))
    try:
        finding = check_disk(tmp_path, 10**6)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, earlier)
        signal.signal(signal.SIGXFSZ, handler)

    assert (finding.status, "File too large" in finding.text) == ("error", True)


def test_a_file_where_a_folder_should_be_is_found(tmp_path: Path):
    (tmp_path / "outputs").write_text("")

    finding = check_disk(tmp_path / "outputs/runs", 10**6)

    assert (finding.status, "Not a directory" in finding.text) == ("error", True)
    assert finding.fix.startswith("move away the file")


def test_an_output_folder_need_not_exist(tmp_path: Path):
    assert str(tmp_path) in check_disk(tmp_path / "a/b", 10**6).text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("gigabytes", "status"), [(1, "error"), (64, "ok")])
def test_memory_is_compared_with_what_simulators_take(tmp_path: Path, gigabytes, status):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(f"MemAvailable: {gigabytes * 10**6} kB\n")

    finding = check_memory(root=tmp_path)

    assert finding.status == status
    assert f"{1.024 * gigabytes:.1f} GB of memory available" in finding.text
