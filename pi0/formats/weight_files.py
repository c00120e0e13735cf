"""Reading and writing files of weights, one tensor at a time.

safetensors' own ``save_file`` holds all tensors, and their bytes, at once (28 GB for a pi0 in single
precision), and writes files that their owner alone may read.
"""

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pi0.files import is_there, read_json, refuse_stand_in
from pi0.formats.remains import explain_absence

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
# RLinf's reinforcement learning writes a plain dictionary of tensors with torch.save.
RLINF_WEIGHTS = (
    "actor/model_state_dict/full_weights.pt",
    "model_state_dict/full_weights.pt",
    "full_weights.pt",
)
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

_ALIGNMENT = 8
# what is written besides weights
_OTHER = {"U8": torch.uint8, "I64": torch.int64, "BOOL": torch.bool}
_NAMES = {dtype: name for name, dtype in (DTYPES | _OTHER).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor as its file's header describes it.

    Attributes:
        path: The file it is in.
        shape: Its shape.
        dtype: Its floating-point type.
        read: Returns it.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFiles:
    """All tensors of a checkpoint.

    Attributes:
        path: The one file that holds or lists them, for messages.
        tensors: By their names in the files.
    """

    path: Path
    tensors: Mapping[str, StoredTensor]

    @property
    def is_rlinf(self) -> bool:
        """Return whether RLinf's reinforcement learning wrote them."""
        return self.path.suffix == ".pt"


def weights_present(folder: Path) -> list[str]:
    """Return the names of the files of weights in a folder; there should be one."""
    return [name for name in (WEIGHTS, INDEX, *RLINF_WEIGHTS) if is_there(folder / name)]


def open_weights(folder: Path) -> WeightFiles:
    """Read the headers of a folder's weights; nothing else is loaded.

    Raises:
        FileNotFoundError: The folder or a listed shard is missing.
        ValueError: A file is damaged, or it is not clear which weights are meant.
    """
    present = weights_present(folder)
    if not present:
        what = explain_absence(folder, WEIGHTS, INDEX)
        raise FileNotFoundError(f"{folder / WEIGHTS} does not exist; {what}")
    if len(present) > 1:
        raise ValueError(
            f"{folder} holds several sets of weights: {', '.join(present)}; "
            "move the one you do not mean elsewhere"
        )
    path = folder / present[0]
    if path.name == INDEX:
        return WeightFiles(path=path, tensors=_sharded(path))
    tensors = _pickled(path) if path.suffix == ".pt" else _safetensors(path)
    return WeightFiles(path=path, tensors=tensors)


def _safetensors(path: Path) -> dict[str, StoredTensor]:
    refuse_stand_in(path)
    try:
        file = safe_open(path, framework="pt")
        return {
            name: _entry(path, name, file.get_slice(name), lambda name=name: file.get_tensor(name))
            for name in file.keys()  # noqa: SIM118 - safe_open is no mapping
        }
    except (SafetensorError, struct.error, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged or not safetensors ({error}); copy it again") from None


def _entry(path: Path, name: str, header: Any, read: Callable[[], Tensor]) -> StoredTensor:
    if isinstance(header, Tensor):
        shape, dtype, spelling = tuple(header.shape), header.dtype, str(header.dtype)
    else:
        spelling = header.get_dtype()
        shape, dtype = tuple(header.get_shape()), DTYPES.get(spelling)
    if dtype is None or dtype not in DTYPES.values():
        raise ValueError(
            f"{path}: tensor {name} has type {spelling}, allowed: {', '.join(DTYPES)}; "
            "quantized or foreign weights cannot be loaded"
        )
    return StoredTensor(path=path, shape=shape, dtype=dtype, read=read)


def _sharded(index: Path) -> dict[str, StoredTensor]:
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(x, str) for x in listed.values()):
        raise ValueError(f"{index}: weight_map must say which file holds which tensor; copy again")
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted(set(listed.values())):
        path = index.parent / shard
        wanted = {name for name, file in listed.items() if file == shard}
        if Path(shard).name != shard:
            raise ValueError(f"{index}: {shard!r} is no file name; copy the file again")
        if not is_there(path):
            raise FileNotFoundError(
                f"{path} does not exist, but {INDEX} puts {len(wanted)} tensors there, "
                f"first {min(wanted)}; copy the missing shard"
            )
        found = _safetensors(path)
        for name in sorted(wanted ^ found.keys()):
            relation = "lacks" if name in wanted else "also holds"
            raise ValueError(
                f"{path} {relation} tensor {name}, unlike {INDEX} says; copy both again"
            )
        tensors |= found
    return tensors


def _pickled(path: Path) -> dict[str, StoredTensor]:
    """Read a dictionary of tensors without running anything that the file may contain."""
    refuse_stand_in(path)
    # torch.save before 1.6, and still on request, writes no archive: that must be read as a whole
    mmap = zipfile.is_zipfile(path)
    try:
        found = torch.load(path, map_location="cpu", mmap=mmap, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{path} is damaged or holds more than tensors ({reason}); copy it again"
        ) from None
    if not isinstance(found, dict) or not all(isinstance(x, Tensor) for x in found.values()):
        raise ValueError(f"{path} must hold a dictionary of tensors, as RLinf writes it")
    return {
        name: _entry(path, name, tensor, lambda tensor=tensor: tensor)
        for name, tensor in found.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSource:
    """A tensor to be written: its shape and type, and how to get it when its turn comes."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]


def write_safetensors(path: Path, tensors: Mapping[str, TensorSource]) -> None:
    """Write a file that safetensors reads; tensors keep their types and bits."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start = end
        end += torch.Size(tensor.shape).numel() * tensor.dtype.itemsize
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for tensor in tensors.values():
            values = tensor.read().to(tensor.dtype).contiguous()
            file.write(values.reshape(-1).view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())
