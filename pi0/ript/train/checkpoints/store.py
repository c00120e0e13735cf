"""Run checkpoints: written whole or not at all, found again after any crash.

Layout: ``<run>/checkpoints/<step>/{pretrained_model/, training_state/, SHA256SUMS}`` and
``<run>/checkpoints/last``, a link to the newest one; copies of a run may have a folder instead, or nothing. The state of the optimizer is one file, or, where it is
sharded over ranks, a folder with a file from each of them. What is replayed is a folder too, see ``replay_files``. A checkpoint is written to a temporary sibling folder,
flushed to disk, read back and compared with its checksums, and only then renamed, linked and allowed to
replace older ones.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from safetensors import SafetensorError

from pi0.ript.engine.liveness import RankLostError
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.interfaces import Ranks
from pi0.ript.os_errors import NO_LINKS, remedy
from pi0.ript.train.checkpoints.checksums import flush
from pi0.ript.train.checkpoints.folder import STATE_FILE, find_damage, write_optimizer, write_rest
from pi0.ript.train.checkpoints.replay_files import write_replay
from pi0.ript.train.checkpoints.state import PolicySnapshot, StoredNumbers, TrainingState

_log = logging.getLogger(__name__)

_LAST = "last"
_TEMPORARY = ".writing-"


def save_checkpoint(
    run_dir: Path,
    snapshot: PolicySnapshot,
    state: TrainingState,
    keep: int,
    *,
    protected: int | None = None,
    ranks: Ranks = SINGLE_PROCESS,
) -> Path:
    """Write the checkpoint of ``state.step``, point ``last`` to it and delete the oldest ones.

    Rank 0 writes it. Where the optimizer is sharded, or several ranks replay samples, this is a collective; each
    rank writes its own part.

    Args:
        run_dir: Run directory.
        snapshot: Of the policy.
        state: The rest.
        keep: Newest checkpoints kept, >= 1.
        protected: A step whose checkpoint is kept beside them.
        ranks: The processes.

    Returns:
        The checkpoint folder.

    Raises:
        OSError: If it cannot be written; nothing half-written stays and earlier checkpoints are intact.
    """
    checkpoints = run_dir / "checkpoints"
    final = checkpoints / str(state.step)
    temporary = checkpoints / f"{_TEMPORARY}{state.step}"
    is_writer = ranks.rank == 0
    with _one_line_errors(final):
        if is_writer:
            checkpoints.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(checkpoints)
        try:
            write_optimizer(temporary, state.engine, ranks)
            if state.replay is not None:
                write_replay(temporary, state.replay, ranks)
            if not is_writer:
                return final
            write_rest(temporary, snapshot, state)
            _replace_folder(temporary, final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _point_last_to(final)
    _prune(checkpoints, state.step, keep, protected)
    return final


def find_last(run_dir: Path) -> Path:
    """Return the newest undamaged checkpoint of a run; damaged ones are passed over with a warning.

    Raises:
        ValueError: If there is no such run or no usable checkpoint in it.
    """
    checkpoints = run_dir / "checkpoints"
    if not checkpoints.is_dir():
        raise ValueError(f"nothing to resume: {checkpoints} does not exist; give a run directory")
    for candidate in _newest_first(checkpoints):
        damage = find_damage(candidate)
        if not damage:
            return candidate
        _log.warning("checkpoint %s is damaged (%s); trying the one before", candidate, damage)
    raise ValueError(f"nothing to resume: no usable checkpoint in {checkpoints}")


def _replace_folder(temporary: Path, final: Path) -> None:
    """Rename into place; a folder of the same step (damaged, or from before a resume) goes first."""
    outgoing = final.with_name(f"{_TEMPORARY}old-{final.name}")
    if final.exists():
        final.rename(outgoing)
    try:
        temporary.rename(final)
    except BaseException:
        if outgoing.exists() and not final.exists():
            outgoing.rename(final)
        raise
    flush(final.parent)
    shutil.rmtree(outgoing, ignore_errors=True)


def _point_last_to(final: Path) -> None:
    last, link = final.with_name(_LAST), final.with_name(f"{_TEMPORARY}{_LAST}")
    if last.is_dir() and not last.is_symlink():
        _settle_copy(last)
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(final.name)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        _say_without_links(final.parent)
        return
    link.replace(last)
    flush(final.parent)


@cache
def _say_without_links(checkpoints: Path) -> None:
    _log.warning(
        "the file system of %s has no links, so there is no %s in it; the newest checkpoint has the highest number",
        checkpoints,
        _LAST,
    )


def _settle_copy(last: Path) -> None:
    """Put a folder where a link belongs, left by a copy that follows links, among those with numbers."""
    step = _copied_step(last)
    home = last.with_name(f"{_LAST}.damaged" if step is None else str(step))
    if step is None:
        shutil.rmtree(home, ignore_errors=True)
    if home.exists():
        shutil.rmtree(last)
    else:
        last.rename(home)


def _copied_step(last: Path) -> int | None:
    """Return the step of a checkpoint that stands where the link to the newest belongs; None if none does."""
    if last.is_symlink() or find_damage(last):
        return None
    return StoredNumbers.read(last / STATE_FILE).step


def _remove_leftovers(checkpoints: Path) -> None:
    for path in checkpoints.glob(f"{_TEMPORARY}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _by_step(checkpoints: Path) -> list[Path]:
    folders = [path for path in checkpoints.iterdir() if path.is_dir() and path.name.isdecimal()]
    return sorted(folders, key=lambda path: int(path.name), reverse=True)


def _newest_first(checkpoints: Path) -> list[Path]:
    """Return the folder ``last`` points to or is a copy of, that copy, then the others by falling step."""
    last = checkpoints / _LAST
    copied = _copied_step(last)
    target = last.resolve().name if copied is None else str(copied)
    folders = [*_by_step(checkpoints), *([] if copied is None else [last])]
    return sorted(folders, key=lambda path: (path.name != target, path != last))


def _prune(checkpoints: Path, step: int, keep: int, protected: int | None) -> None:
    """Keep the newest of those up to ``step``; a later one is not ours to count or to delete."""
    written = [path for path in _by_step(checkpoints) if int(path.name) <= step]
    for path in written[keep:]:
        if path.name != str(protected):
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _one_line_errors(final: Path) -> Iterator[None]:
    try:
        yield
    except RankLostError:
        raise
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OSError(f"cannot write checkpoint {final}: {reason}; {remedy(error)}") from error
