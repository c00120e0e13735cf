"""A run that was copied, or lies where there are no links, is resumed and goes on writing checkpoints."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from pi0.ript.train.checkpoints.folder import load_training_state
from pi0.ript.train.checkpoints.store import find_last
from tests.policy_parts import small_policy
from tests.train.checkpoints.test_store import names, save


@pytest.fixture(scope="module")
def policy():
    return small_policy()


@pytest.fixture
def copy(tmp_path: Path, policy) -> Path:
    """A run with checkpoints 5 and 10, copied as ``cp -rL``, ``scp -r`` and object stores do."""
    save(tmp_path / "run", policy, 5, 10)
    target = Path(shutil.copytree(tmp_path / "run", tmp_path / "copy", symlinks=False))
    assert not (target / "checkpoints/last").is_symlink()
    return target


def next_step(run: Path, policy) -> int:
    """The step that is resumed from; then another checkpoint is written, and found by the link."""
    step = load_training_state(find_last(run)).step
    save(run, policy, step + 1)
    assert (run / "checkpoints/last").readlink() == Path(str(step + 1))
    assert find_last(run).name == str(step + 1)
    return step


def test_a_copy_that_followed_the_link_goes_on(copy: Path, policy):
    assert find_last(copy).name == "10"
    assert next_step(copy, policy) == 10
    assert names(copy) == ["10", "11", "5", "last"]


def test_a_copy_of_the_last_checkpoint_alone_goes_on_and_keeps_it(copy: Path, policy):
    for step in ("5", "10"):
        shutil.rmtree(copy / "checkpoints" / step)

    assert next_step(copy, policy) == 10
    assert names(copy) == ["10", "11", "last"]


def test_where_the_numbered_folder_is_damaged_its_copy_is_used(copy: Path, policy):
    (copy / "checkpoints/10/training_state/state.json").write_text("{")

    assert find_last(copy) == copy / "checkpoints/last"
    assert next_step(copy, policy) == 10


def test_a_damaged_copy_is_passed_over_and_kept(copy: Path, policy):
    (copy / "checkpoints/last/training_state/state.json").write_text("{")

    assert next_step(copy, policy) == 10
    assert names(copy) == ["10", "11", "5", "last", "last.damaged"]


def test_a_link_that_became_a_file_with_its_target_is_replaced(copy: Path, policy):
    shutil.rmtree(copy / "checkpoints/last")
    (copy / "checkpoints/last").write_text("10")

    assert next_step(copy, policy) == 10


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_links_checkpoints_are_found_by_their_numbers(
    tmp_path: Path, policy, number: int, monkeypatch, caplog
):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "symlink_to", refuse)

    save(tmp_path, policy, 1, 2)

    assert find_last(tmp_path).name == "2"
    assert names(tmp_path) == ["1", "2"]
    assert ["has no links" in message for message in caplog.messages] == [True]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EROFS, "mounted read-only"),
        (errno.EDQUOT, "quota"),
        (errno.EIO, "see dmesg"),
        (errno.EACCES, "write access"),
    ],
)
def test_what_the_system_said_decides_what_to_do(
    tmp_path: Path, policy, number, words, monkeypatch
):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "symlink_to", refuse)

    with pytest.raises(OSError, match=words) as caught:
        save(tmp_path, policy, 1)

    assert "free disk space" not in str(caught.value)
