"""Arrays of an orbax checkpoint, read through tensorstore alone (optional: ``pip install 'pi0-ript[jax]'``).

No code of a checkpoint runs: ``_METADATA`` is JSON, arrays are zarr, in one OCDBT store or in folders.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pi0.card import read_json

METADATA = "_METADATA"
PARAMS = "params"

_MANIFEST = "manifest.ocdbt"
_LEAF = "value"  # how openpi's trainer wraps every array (nnx.State)
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# A machine that loads a policy has better uses for its memory than caches of what is read once.
_LIMITS = {
    "cache_pool": {"total_bytes_limit": 64 << 20},
    "data_copy_concurrency": {"limit": 2},
    "file_io_concurrency": {"limit": 4},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredArray:
    """An array as its header describes it.

    Attributes:
        shape: Its shape.
        dtype: Its floating-point type.
        read: Returns all of it.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]


def find_params(folder: Path) -> Path | None:
    """Return the folder of the arrays: ``folder`` or its ``params``; None if neither is orbax's.

    Raises:
        FileNotFoundError: The folder holds training steps; the line names the last one.
    """
    for candidate in (folder / PARAMS, folder):
        if (candidate / METADATA).is_file() or (candidate / _MANIFEST).is_file():
            return candidate if candidate.name == PARAMS or candidate == folder else None
    steps = [path for path in folder.glob(f"*/{PARAMS}") if path.parent.name.isdecimal()]
    if steps:
        last = max(steps, key=lambda path: int(path.parent.name)).parent
        raise FileNotFoundError(f"{folder} holds {len(steps)} training steps; give one: {last}")
    return None


def open_arrays(params: Path) -> dict[str, StoredArray]:
    """Read the headers of all arrays, by their path in the tree without ``params`` and ``value``.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: tensorstore is missing, or a file is damaged; the line names it.
    """
    tensorstore = _import_tensorstore(params)
    tree = read_json(params / METADATA)
    context = tensorstore.Context(_LIMITS)
    driver = "zarr3" if tree.get("use_zarr3") else "zarr"
    arrays = {}
    for path in _strip(params, list(_paths(params, tree))):
        spec = {"driver": driver, "kvstore": _store(params, path.stored)}
        # a missing piece would read as zeros
        spec["fill_missing_data_reads"] = False
        arrays[path.name] = _open(tensorstore, context, params, path.name, spec)
    return arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class _Path:
    """An array's place: ``stored`` in the files, ``name`` in the network."""

    stored: tuple[str, ...]
    name: str


def _paths(params: Path, tree: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the path of every array; keys are lists in ``key_metadata``, their text is not parsed."""
    listed = tree.get("tree_metadata")
    entries = list(listed.values()) if isinstance(listed, dict) else []
    for entry in entries:
        keys = entry.get("key_metadata") if isinstance(entry, dict) else None
        found = [key.get("key") for key in keys or [] if isinstance(key, dict)]
        parts = [part for part in found if isinstance(part, str) and _is_plain(part)]
        if not parts or parts != found:
            raise ValueError(f"{params / METADATA}: an entry has no path of names; copy it again")
        yield tuple(parts)
    if not entries:
        raise ValueError(f"{params / METADATA} lists no arrays; copy it again")


def _is_plain(part: str) -> bool:
    return bool(part) and part not in (".", "..") and "/" not in part and "\\" not in part


def _strip(params: Path, paths: list[tuple[str, ...]]) -> Iterator[_Path]:
    is_wrapped = all(path[-1] == _LEAF for path in paths)
    for path in paths:
        inner = path[:-1] if is_wrapped else path
        if inner[0] != PARAMS or len(inner) < 2:
            raise ValueError(f"{params / METADATA}: {'/'.join(path)} is not below {PARAMS!r}")
        yield _Path(stored=path, name="/".join(inner[1:]))


def _store(params: Path, stored: tuple[str, ...]) -> dict[str, Any]:
    name = ".".join(stored)
    if (params / _MANIFEST).exists():
        base = {"driver": "file", "path": f"{params}/"}
        return {"driver": "ocdbt", "base": base, "path": f"{name}/"}
    return {"driver": "file", "path": f"{params / name}/"}


def _open(
    tensorstore: Any, context: Any, params: Path, name: str, spec: dict[str, Any]
) -> StoredArray:
    def attempt(action: Callable[[], Any]) -> Any:
        try:
            return action()
        except (ValueError, OSError) as error:  # tensorstore reports missing and damaged files so
            reason = " ".join(str(error).partition("[source locations")[0].split())
            raise ValueError(
                f"{params}: array {name} cannot be read ({reason}); copy the folder again"
            ) from None

    array = attempt(lambda: tensorstore.open(spec, open=True, read=True, context=context).result())
    dtype = _DTYPES.get(array.dtype.name)
    if dtype is None:
        raise ValueError(
            f"{params}: array {name} has type {array.dtype.name}, allowed: {', '.join(_DTYPES)}"
        )
    return StoredArray(
        shape=tuple(array.shape),
        dtype=dtype,
        read=lambda: _to_torch(attempt(lambda: array.read().result()), dtype),
    )


def _to_torch(values: Any, dtype: torch.dtype) -> Tensor:
    """Return numpy's values bit for bit; numpy has no bfloat16 of its own."""
    if dtype == torch.bfloat16:
        return torch.from_numpy(values.view("int16")).view(torch.bfloat16)
    return torch.from_numpy(values)


def _import_tensorstore(params: Path) -> Any:
    try:
        return importlib.import_module("tensorstore")
    except ImportError:
        raise ValueError(
            f"{params} is a JAX checkpoint, and tensorstore is not installed; "
            "type: pip install 'pi0-ript[jax]'"
        ) from None
