"""Run checkpoints: written whole or not at all, found again after any crash.

Layout: ``<run>/checkpoints/<step>/{pretrained_model/, training_state/, SHA256SUMS}`` and
``<run>/checkpoints/last``, a link to the newest one; copies of a run may have a folder instead, or nothing. The state of the optimizer is one file, or, where it is
sharded over ranks, a folder with a file from each of them. A checkpoint is written to a temporary sibling folder,
flushed to disk, read back and compared with its checksums, and only then renamed, linked and allowed to
replace older ones.
"""

import json
import logging
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Self

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pi0.checkpoint import save_policy
from pi0.policy import Pi0Policy
from pi0.ript.engine.liveness import RankLostError
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.engine.sharded_tensors import StoredShards, is_sharded, write_shards
from pi0.ript.engine.single import EngineState
from pi0.ript.interfaces import Ranks
from pi0.ript.os_errors import NO_LINKS, remedy
from pi0.ript.train.checksums import find_difference, flush, write_checksums

_log = logging.getLogger(__name__)

POLICY_FOLDER = "pretrained_model"
STATE_FOLDER = "training_state"
_LAST = "last"
_TEMPORARY = ".writing-"
_STATE_FILE = f"{STATE_FOLDER}/state.json"
_OPTIMIZER_FILE = f"{STATE_FOLDER}/optimizer.safetensors"
_OPTIMIZER_PIECES = f"{STATE_FOLDER}/optimizer"
_OBJECTIVE_FILE = f"{STATE_FOLDER}/objective.safetensors"
_ACTING_FILE = f"{STATE_FOLDER}/acting.safetensors"
_REQUIRED = (_STATE_FILE, _OBJECTIVE_FILE, _ACTING_FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNumbers:
    """What ``training_state/state.json`` holds.

    Attributes:
        step: RIPT steps finished.
        num_optimizer_steps: Optimizer steps taken.
        sampler_position: Initial states dealt.
        counters: Running totals by name, finite.
        config_hash: Identifies the settings of the run.
    """

    step: int
    num_optimizer_steps: int
    sampler_position: int
    counters: Mapping[str, int | float]
    config_hash: str

    def write(self, path: Path) -> None:
        """Write the numbers."""
        path.write_text(json.dumps(asdict(self), indent=2, allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return what ``write`` wrote.

        Raises:
            ValueError: The file holds something else; names the field.
        """
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} is no JSON ({error}); use another checkpoint") from None
        if not isinstance(content, dict) or content.keys() != cls.__dataclass_fields__.keys():
            raise ValueError(f"{path} must hold {', '.join(cls.__dataclass_fields__)}")
        for name in ("step", "num_optimizer_steps", "sampler_position"):
            if type(content[name]) is not int or content[name] < 0:
                raise ValueError(f"{path}: {name} must be a number >= 0, got {content[name]!r:.80}")
        if type(content["config_hash"]) is not str:
            raise ValueError(
                f"{path}: config_hash must be text, got {content['config_hash']!r:.80}"
            )
        _require_counters(path, content["counters"])
        return cls(**content)


def _require_counters(path: Path, counters: object) -> None:
    if not isinstance(counters, dict):
        raise ValueError(f"{path}: counters must be names with numbers, got {counters!r:.80}")
    for name, value in counters.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError(f"{path}: counter {name} must be a finite number, got {value!r:.80}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """Everything besides the weights that a run needs to continue with the numbers it would have had.

    Attributes:
        step: RIPT steps finished.
        engine: Optimizer moments and step count.
        sampler_position: ``InitialStateSampler.cursor``, under the name that files have for it.
        counters: Running totals of the trainer, plain numbers by name.
        config_hash: Identifies the settings of the run.
        objective: Earlier weights that the objective remembers; empty where it remembers none.
        acting: Earlier weights that act in the next step; empty where the saved ones do.
    """

    step: int
    engine: EngineState
    sampler_position: int
    counters: Mapping[str, int | float]
    config_hash: str
    objective: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    acting: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])


def save_checkpoint(
    run_dir: Path,
    policy: Pi0Policy,
    state: TrainingState,
    keep: int,
    *,
    protected: int | None = None,
    ranks: Ranks = SINGLE_PROCESS,
) -> Path:
    """Write the checkpoint of ``state.step``, point ``last`` to it and delete the oldest ones.

    Rank 0 writes it. Where the optimizer is sharded this is a collective; each rank writes its own part.

    Args:
        run_dir: Run directory.
        policy: Whose weights are saved.
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
            _write_optimizer(temporary, state.engine, ranks)
            if not is_writer:
                return final
            _write(temporary, policy, state)
            _replace_folder(temporary, final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _point_last_to(final)
    _prune(checkpoints, state.step, keep, protected)
    return final


def load_training_state(checkpoint: Path) -> TrainingState:
    """Return the training state of a checkpoint folder.

    Raises:
        ValueError: If the checkpoint is missing files or damaged.
    """
    damage = find_damage(checkpoint)
    if damage:
        raise ValueError(f"checkpoint {checkpoint} cannot be read: {damage}; choose another one")
    numbers = StoredNumbers.read(checkpoint / _STATE_FILE)
    return TrainingState(
        step=numbers.step,
        engine=EngineState(
            tensors=_load_optimizer(checkpoint),
            num_steps=numbers.num_optimizer_steps,
        ),
        sampler_position=numbers.sampler_position,
        counters=numbers.counters,
        config_hash=numbers.config_hash,
        objective=_load_tensors(checkpoint / _OBJECTIVE_FILE),
        acting=_load_tensors(checkpoint / _ACTING_FILE),
    )


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


def find_damage(checkpoint: Path) -> str:
    """Return what is wrong with a checkpoint folder in a few words, or an empty string."""
    missing = [name for name in _REQUIRED if not (checkpoint / name).is_file()]
    if (
        not (checkpoint / _OPTIMIZER_PIECES).is_dir()
        and not (checkpoint / _OPTIMIZER_FILE).is_file()
    ):
        missing.append(_OPTIMIZER_FILE)
    return f"{missing[0]} is missing" if missing else find_difference(checkpoint)


def _load_optimizer(checkpoint: Path) -> Mapping[str, Tensor]:
    shards = checkpoint / _OPTIMIZER_PIECES
    return StoredShards(shards) if shards.is_dir() else _load_tensors(checkpoint / _OPTIMIZER_FILE)


def _load_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is no readable safetensors file ({error})") from None


def _write_optimizer(folder: Path, engine: EngineState, ranks: Ranks) -> None:
    """Write the state of the optimizer into a folder that does not exist yet."""
    if ranks.rank == 0:
        (folder / STATE_FOLDER).mkdir(parents=True)
    if not is_sharded(engine.tensors):
        save_file(dict(engine.tensors), folder / _OPTIMIZER_FILE)
        return
    ranks.gather_text("the folder is there")
    write_shards(folder / _OPTIMIZER_PIECES, engine.tensors, ranks)


def _write(folder: Path, policy: Pi0Policy, state: TrainingState) -> None:
    """Write everything else and prove that it is on the disk."""
    save_policy(policy, folder / POLICY_FOLDER)
    save_file(dict(state.objective), folder / _OBJECTIVE_FILE)
    save_file(dict(state.acting), folder / _ACTING_FILE)
    StoredNumbers(
        step=state.step,
        num_optimizer_steps=state.engine.num_steps,
        sampler_position=state.sampler_position,
        counters=dict(state.counters),
        config_hash=state.config_hash,
    ).write(folder / _STATE_FILE)
    write_checksums(folder)
    difference = find_difference(folder)
    if difference:
        raise OSError(f"read back from the disk, {difference}")


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
    return StoredNumbers.read(last / _STATE_FILE).step


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
