"""What is replayed, beside a checkpoint: two files of every rank in ``training_state/replay/``.

``rank_<r>.safetensors`` holds the arrays of the samples, named ``<step>.<name>`` and, of observations,
``<step>.<name>.<first sample>``, and ``rank_<r>.json`` the steps,
instructions and how images were encoded. ``SHA256SUMS`` of the checkpoint covers them, but a checkpoint whose
samples are damaged or missing is still one: a run goes on without them.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor

from pi0.formats.weight_files import TensorSource, write_safetensors
from pi0.records import ImageEncoding, Observation
from pi0.ript.interfaces import Ranks
from pi0.ript.learner.batch import join, select
from pi0.ript.learner.replay import MOST_GROUPS, KeptStep
from pi0.ript.train.checkpoints.checksums import find_difference
from pi0.ript.types import Batch

FOLDER = "training_state/replay"
_LISTED = ("observations", "tasks")  # what a batch has as tuples
_OBSERVED = ("images", "proprio")
_BLOCK = (
    256  # observations that are copied at once while they are written, not those of a whole step
)
_ARRAYS = tuple(field.name for field in fields(Batch) if field.name not in _LISTED)

logger = logging.getLogger(__name__)


def is_replay(name: str) -> bool:
    """Return whether a file of a checkpoint, by its path below it, is one of these."""
    return name.startswith(f"{FOLDER}/")


def write_replay(checkpoint: Path, kept: Sequence[KeptStep], ranks: Ranks) -> None:
    """Write this rank's samples into a checkpoint folder that rank 0 has made; a collective.

    Raises:
        OSError: A rank cannot write; every rank has the reason of the first one that failed.
    """
    ranks.gather_text("the folder is there")
    failure: OSError | None = None
    try:
        _write(checkpoint / FOLDER, f"rank_{ranks.rank}", kept)
    except OSError as error:
        failure = error
    reasons = ranks.gather_text("" if failure is None else f"rank {ranks.rank}: {failure}")
    if any(reasons):
        raise failure or OSError(next(filter(None, reasons)))


def load_replay(checkpoint: Path, ranks: Ranks) -> tuple[KeptStep, ...]:
    """Return the samples that this rank collected, or, with other ranks than then, would have.

    If they are damaged or missing, there are none, with one warning.
    """
    folder = checkpoint / FOLDER
    try:
        damage = find_difference(checkpoint, is_replay)
        if damage or not folder.is_dir():
            raise ValueError(damage or f"{FOLDER} is missing")
        kept = [step for path in sorted(folder.glob("*.json")) for step in _read(path)]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        logger.warning(
            "%s: samples of earlier steps cannot be read (%s); the run goes on with those of its next steps",
            *(checkpoint, error),
        )
        return ()
    numbers = sorted({each.step for each in kept})
    own = [_part_of(ranks, [each for each in kept if each.step == number]) for number in numbers]
    return tuple(each for each in own if len(each.samples))


def _part_of(ranks: Ranks, parts: Sequence[KeptStep]) -> KeptStep:
    """Return what a rank has of one step, of which every rank of then kept a part."""
    samples = join([part.samples for part in parts])
    owners = samples.groups % MOST_GROUPS % ranks.world_size
    own = np.flatnonzero(owners == ranks.rank)
    rising = own[np.argsort(samples.groups[own], kind="stable")]
    means = samples.behavior_means
    assert means is not None, "kept samples have the means that they were drawn with"
    chosen = replace(select(samples, rising), behavior_means=means[rising])
    return KeptStep(step=parts[0].step, samples=chosen)


def _write(folder: Path, name: str, kept: Sequence[KeptStep]) -> None:
    folder.mkdir(exist_ok=True)
    sources: dict[str, TensorSource] = {}
    for each in kept:
        sources |= {f"{each.step}.{array}": source for array, source in _sources(each.samples)}
    write_safetensors(folder / f"{name}.safetensors", sources)
    content = {"steps": [_texts(each) for each in kept]}
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def _sources(samples: Batch) -> Iterator[tuple[str, TensorSource]]:
    """Yield every array of some samples by name; those of observations are made when their turn comes."""
    for name in _ARRAYS:
        tensor = torch.from_numpy(getattr(samples, name))
        yield name, _source(tensor.shape, tensor.dtype, lambda tensor=tensor: tensor)
    for first in range(0, len(samples), _BLOCK):
        block = samples.observations[first : first + _BLOCK]
        for name in _OBSERVED:

            def stacked(name: str = name, block: Sequence[Observation] = block) -> Tensor:
                return torch.from_numpy(np.stack([getattr(each, name) for each in block]))

            one = torch.from_numpy(getattr(block[0], name))
            yield f"{name}.{first}", _source((len(block), *one.shape), one.dtype, stacked)


def _source(shape: Sequence[int], dtype: torch.dtype, read: Callable[[], Tensor]) -> TensorSource:
    return TensorSource(shape=tuple(shape), dtype=dtype, read=read)


def _texts(kept: KeptStep) -> dict[str, object]:
    encoding = kept.samples.observations[0].encoding
    return {
        "step": kept.step,
        "encoding": None if encoding is None else asdict(encoding),
        "tasks": kept.samples.tasks,
    }


def _read(path: Path) -> Iterator[KeptStep]:
    """Yield what ``_write`` wrote into a pair of files, by the path of the one with the texts."""
    arrays = load_file(path.with_suffix(".safetensors"))
    for texts in json.loads(path.read_text())["steps"]:
        step, tasks, encoding = int(texts["step"]), tuple(texts["tasks"]), texts["encoding"]
        how = None if encoding is None else ImageEncoding(**encoding)
        observations = tuple(
            Observation(images=images, proprio=proprio, encoding=how)
            for first in range(0, len(tasks), _BLOCK)
            for images, proprio in zip(
                *(arrays[f"{step}.{name}.{first}"] for name in _OBSERVED), strict=True
            )
        )
        found = {name: arrays[f"{step}.{name}"] for name in _ARRAYS}
        if {len(array) for array in (tasks, *found.values())} != {len(observations)}:
            raise ValueError(f"{path.name}: step {step} has arrays of different lengths")
        samples = Batch(observations=observations, tasks=tasks, **found)
        yield KeptStep(step=step, samples=samples)
