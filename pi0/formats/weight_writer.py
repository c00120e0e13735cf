"""Writes safetensors one tensor at a time.

safetensors' own ``save_file`` holds all tensors, and their bytes, at once: 28 GB for a pi0 in single
precision.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pi0.formats.weight_files import DTYPES

_ALIGNMENT = 8
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


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
            file.write(values.view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())
