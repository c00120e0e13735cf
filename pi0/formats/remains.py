"""What lies in a folder without usable weights, and what its owner can do about it."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from pi0.files import is_there, read_json, refuse_stand_in

ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")

_ADAPTER_CONFIG = "adapter_config.json"
_STEP = re.compile(r"(global_step_)?\d+")
_SHARD = re.compile(r"-\d+-of-\d+\.safetensors$")
_UNFINISHED = (".incomplete", ".part", ".partial", ".crdownload", ".aria2", ".tmp", ".download")
_ARCHIVES = (".tar", ".gz", ".tgz", ".zip", ".7z", ".zst", ".xz", ".bz2")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_OTHER_FORMATS = (".gguf", ".onnx", ".msgpack", ".h5", ".engine", ".npz")
_ORBAX = ("_METADATA", "_CHECKPOINT_METADATA")
_INNER = ("pretrained_model", "checkpoints/last/pretrained_model")


def is_orbax(folder: Path) -> bool:
    """Return whether a folder is a JAX checkpoint or holds one."""
    return any(is_there(inner / name) for inner in (folder, folder / "params") for name in _ORBAX)


def explain_absence(folder: Path, weights: str, index: str) -> str:
    """Return what is there instead of weights and what to do.

    Args:
        folder: The checkpoint.
        weights: Name of the file that is missing.
        index: Name of the list that shards need.
    """
    names = sorted(path.name for path in folder.iterdir())
    explanations: tuple[Callable[[], str | None], ...] = (
        lambda: _folder_inside(folder, names),
        lambda: _adapter(folder, names),
        lambda: _shards(names, index),
        lambda: _distributed(folder, names),
        lambda: _other_safetensors(folder, names, weights),
        lambda: _download(names),
        lambda: _foreign(names, weights),
    )
    said = (explain() for explain in explanations)
    return next((text for text in said if text), "the checkpoint folder is incomplete")


def _folder_inside(folder: Path, names: list[str]) -> str | None:
    """Runs of this project, LeRobot, openpi and RLinf, and the cache of the Hugging Face Hub."""
    inner = [folder / name for name in _INNER]
    steps = [name for name in names if _STEP.fullmatch(name)]
    for name in sorted(steps, key=lambda name: int(name.rpartition("_")[2]), reverse=True):
        inner += [folder / name / sub for sub in ("pretrained_model", "")]
    if is_there(folder / "snapshots"):
        main = folder / "refs/main"
        inner += [folder / "snapshots" / main.read_text("utf-8").strip()] if is_there(main) else []
        inner += sorted((folder / "snapshots").iterdir())
    found = next((path for path in inner if path.is_dir()), None)
    return None if found is None else f"did you mean {found}?"


def _adapter(folder: Path, names: list[str]) -> str | None:
    present = [name for name in (*ADAPTERS, _ADAPTER_CONFIG) if name in names]
    if not present:
        return None
    settings = read_json(folder / _ADAPTER_CONFIG) if _ADAPTER_CONFIG in present else {}
    base = settings.get("base_model_name_or_path")
    return (
        f"there is {present[0]}, a LoRA adapter of {base or 'another checkpoint'} and no whole policy: "
        "merge it into that one in the project that trained it (PEFT: merge_and_unload), save, give that"
    )


def _shards(names: list[str], index: str) -> str | None:
    shards = [name for name in names if _SHARD.search(name)]
    if not shards or index in names:
        return None
    return f"there is {shards[0]}: shards need their {index}, copy it too"


def _distributed(folder: Path, names: list[str]) -> str | None:
    """Checkpoints in as many parts as there were ranks."""
    for name in ("actor/dcp_checkpoint", "dcp_checkpoint", "actor/model_state_dict", "actor"):
        if is_there(folder / name):
            return (
                f"there is {name}, what RLinf needs to go on training; set "
                "actor.fsdp_config.save_full_model_weights: true there, save again, and give the folder "
                "with full_weights.pt"
            )
    if ".metadata" in names or any(name.endswith(".distcp") for name in names):
        return (
            "these are the shards of torch's distributed checkpoint; python -m torch.distributed."
            "checkpoint.format_utils dcp_to_torch DIR full_weights.pt makes one file of them"
        )
    if "zero_to_fp32.py" in names or any(name.endswith("_model_states.pt") for name in names):
        return (
            "these are the shards of DeepSpeed; python zero_to_fp32.py DIR OUT --safe_serialization "
            "makes a whole checkpoint of them"
        )
    return None


def _other_safetensors(folder: Path, names: list[str], weights: str) -> str | None:
    others = [name for name in names if name.endswith(".safetensors") and name != weights]
    for name in others:
        if _holds_network(folder / name):
            kind = "averaged weights" if "ema" in name.lower() else "weights under another name"
            return f"there is {name}, {kind}: rename it to {weights} if those are the ones you mean"
    return None


def _holds_network(path: Path) -> bool:
    """Return whether a file holds a pi0 and not, say, statistics."""
    is_there(path)
    refuse_stand_in(path)
    try:
        with safe_open(path, framework="pt") as file:
            return any("action_in_proj." in name for name in file.keys())  # noqa: SIM118 - no mapping
    except (SafetensorError, json.JSONDecodeError):
        return False


def _download(names: list[str]) -> str | None:
    for name in names:
        if name.endswith(_UNFINISHED) and "safetensors" in name:
            return f"{name} was not downloaded to its end; download it again"
    for name in names:
        if name.endswith(_ARCHIVES):
            return f"there is {name}; unpack it first"
    return None


def _foreign(names: list[str], weights: str) -> str | None:
    for name in names:
        if name.endswith(_OTHER_FORMATS):
            return f"{name} is of a format that is not read; bring the weights as {weights}"
    # an optimizer's state is no policy; say so only where nothing better is there
    pickled = sorted((n for n in names if n.endswith(_PICKLED)), key=lambda n: "optim" in n)
    if not pickled:
        return None
    return f"{pickled[0]} may hold pickled code, which is not read; convert it to {weights}"
