"""Checkpoints that were damaged, and checkpoints that were forged: changed, with right checksums."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from pi0.checkpoint import load_policy
from pi0.ript.algo.selection import InformativeStates, SolvedStates
from pi0.ript.build_learner import build_engine, build_objective
from pi0.ript.config.schema import TrainingConfig
from pi0.ript.train.checkpoints.checksums import write_checksums
from pi0.ript.train.checkpoints.folder import load_training_state
from pi0.ript.train.checkpoints.store import find_last
from pi0.ript.train.progression import Progression, Stopwatch
from tests.fuzz.inputs import VALUES, damage
from tests.fuzz.judge import FindingError
from tests.fuzz.saved_run import CONFIG, SavedRun

TENSOR_FILES = (
    "pretrained_model/model.safetensors",
    "training_state/optimizer.safetensors",
)
JSON_FILES = (
    "pretrained_model/config.json",
    "pretrained_model/policy.json",
    "pretrained_model/tokenizer.json",
    "training_state/state.json",
)


def damaged_checkpoint(run: SavedRun, harm: tuple[int, list[tuple[str, float, bytes]]]) -> bool:
    """Whatever happens to a file, the checkpoint before is found and is what was written."""
    number, edits = harm
    files = sorted(path for path in run.newest.rglob("*") if path.is_file())
    path = files[number % len(files)]
    before = path.read_bytes()
    after = damage(before, edits)
    path.write_bytes(after)
    try:
        found = find_last(run.folder)
        expected = "2" if after == before else "1"
        if found.name != expected:
            raise FindingError(f"{path.name} is damaged, but step {found.name} was taken")
        load_training_state(found)
    finally:
        path.write_bytes(before)
    return after == before


def forged_checkpoint(run: SavedRun, forgery: tuple[str, dict[str, Any]]) -> bool:
    """What no run would write is refused by the part that needs it, before anything is changed."""
    name, change = forgery
    path = run.newest / name
    before = path.read_bytes()
    sums = (run.newest / "SHA256SUMS").read_bytes()
    try:
        (_forge_tensor if name in TENSOR_FILES else _forge_json)(path, **change)
        write_checksums(run.newest)
        _resume(run.newest)
    finally:
        path.unlink(missing_ok=True)
        path.write_bytes(before)
        (run.newest / "SHA256SUMS").write_bytes(sums)
    return True


def _resume(checkpoint: Path) -> None:
    """Do with a checkpoint what a resumed run does."""
    state = load_training_state(checkpoint)
    policy = load_policy(checkpoint / "pretrained_model")
    engine, objective = build_engine(CONFIG, policy), build_objective(CONFIG.algo)
    engine.load_state(state.engine)
    objective.load_state(dict(state.objective))
    Progression.restored(TrainingConfig(), state.step, state.counters)
    Stopwatch.restored(state.counters)
    for selection in (SolvedStates(3), InformativeStates(0)):
        selection.restore(state.counters)


def _forge_tensor(path: Path, number: int, kind: str) -> None:
    tensors = load_file(path)
    name = sorted(tensors)[number % len(tensors)]
    tensor = tensors.pop(name)
    match kind:
        case "rename":
            tensors[f"{name}x"] = tensor
        case "rename wildly":
            tensors["../../x"] = tensor
        case "reshape":
            tensors[name] = tensor.reshape(1, -1).contiguous()
        case "grow":
            tensors[name] = torch.cat([tensor.reshape(-1), tensor.reshape(-1)[:1]])
        case "integers":
            tensors[name] = tensor.to(torch.int32)
        case "half":
            tensors[name] = tensor.to(torch.float16)
        case "nan":
            tensors[name] = torch.full_like(tensor, float("nan"))
        case "empty":
            tensors[name] = tensor.reshape(-1)[:0].contiguous()
        case "link":
            path.rename(path.with_suffix(".away"))
            os.symlink("/etc/hostname", path)
            path.with_suffix(".away").unlink()
            return
    save_file(tensors, path)


def _forge_json(path: Path, keys: list[int], value: object) -> None:
    """Replace the value that ``keys`` lead to; each chooses among what is there."""
    content = json.loads(path.read_text())
    owner, inner_key = {"": content}, ""
    for key in keys:
        inner = owner[inner_key]
        if not isinstance(inner, dict | list) or not inner:
            break
        owner = inner
        number = key % len(inner)
        inner_key = sorted(inner)[number] if isinstance(inner, dict) else number
    owner[inner_key] = value
    path.write_text(json.dumps(content))


FORGERIES = st.one_of(
    st.tuples(
        st.sampled_from(TENSOR_FILES),
        st.fixed_dictionaries(
            {
                "number": st.integers(0, 200),
                "kind": st.sampled_from(
                    ("rename", "rename wildly", "reshape", "grow", "integers", "half", "nan",
                     "empty", "drop", "link")
                ),
            }
        ),
    ),
    st.tuples(
        st.sampled_from(JSON_FILES),
        st.fixed_dictionaries(
            {"keys": st.lists(st.integers(0, 40), min_size=1, max_size=4), "value": VALUES}
        ),
    ),
)  # fmt: skip
