"""What a policy was trained from, and where the weights are that training left alone.

``base.json`` lies beside the weights of the own layout: a tensor that ``model.safetensors`` there does not hold is that
of the base, and ``lora_A`` and ``lora_B`` are added to it::

    {"path": "/models/pi0_libero", "files": {"model.safetensors": {"bytes": 7001, "sha256": "9f86..."}}}
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Self

import torch
from torch import Tensor

from pi0.background import in_background
from pi0.files import is_there, read_json
from pi0.formats.weight_files import StoredTensor, WeightFiles
from pi0.model.lora import DOWN, UP, with_adapter

BASE = "base.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file as it was when training began: its length in bytes and its digest, 64 hexadecimal digits."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The policy that another one was trained from.

    Attributes:
        path: Its folder.
        files: What holds its weights, by path in the folder.
        dtypes: Of its tensors, by transformers' names; not written.
    """

    path: Path
    files: Mapping[str, StoredFile]
    dtypes: Mapping[str, torch.dtype] = field(default_factory=dict[str, torch.dtype])

    @classmethod
    def of(cls, folder: Path, tensors: Mapping[str, StoredTensor]) -> Self:
        """Return the record of a folder that has been read; takes the digest of every byte of its weights."""
        paths = {file for stored in tensors.values() for file in _files(stored.path)}
        paths |= {folder / BASE} if (folder / BASE).is_file() else set()
        return cls(
            path=folder.resolve(),
            files={
                path.relative_to(folder).as_posix(): _describe(path)
                for path in sorted(paths)
                if path.is_relative_to(
                    folder
                )  # what is below a base of its own is in its base.json
            },
            dtypes={name: stored.dtype for name, stored in tensors.items()},
        )

    def to_json(self) -> str:
        """Return the text of ``base.json``."""
        files = {
            name: {"bytes": file.num_bytes, "sha256": file.sha256}
            for name, file in self.files.items()
        }
        return json.dumps({"path": str(self.path), "files": files}, indent=2) + "\n"

    def check_sizes(self) -> None:
        """See that the files are there and as long as they were; reads none of them.

        Raises:
            FileNotFoundError: The base, or a file of it, is gone.
            ValueError: A file has another length.
        """
        for name, file in self.files.items():
            path = self.path / name
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path} does not exist, and this policy was trained from it; put it back there, "
                    f"or a link: ln -s NEW_PLACE {self.path}"
                )
            if path.stat().st_size != file.num_bytes:
                raise ValueError(self._changed(name))

    def verify(self) -> None:
        """See that every byte is as it was; a file that this process has read already is not read again.

        What that file is counts by its length, the time of its last change and its number on the disk.

        Raises:
            FileNotFoundError: The base, or a file of it, is gone.
            ValueError: A file has changed.
        """
        self.check_sizes()
        for name, file in self.files.items():
            if _describe(self.path / name).sha256 != file.sha256:
                raise ValueError(self._changed(name))

    def _changed(self, name: str) -> str:
        return (
            f"{self.path / name} has changed since this policy was trained from it (sha256 was "
            f"{self.files[name].sha256[:16]}...); put the original file back"
        )


def read_base(folder: Path) -> Base | None:
    """Return what a folder of the own layout says it was trained from; None if it says nothing.

    Raises:
        ValueError: The file holds something else.
    """
    path = folder / BASE
    if not is_there(path):
        return None
    raw = read_json(path)
    try:
        files = {
            str(name): StoredFile(num_bytes=int(each["bytes"]), sha256=str(each["sha256"]))
            for name, each in raw["files"].items()
        }
        base = Base(path=Path(str(raw["path"])), files=files)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} must hold a path and files with bytes and sha256 ({error!r}); copy it again"
        ) from None
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in base.files):
        raise ValueError(f"{path}: files must lie in the folder of the base; copy it again")
    return base


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAdapter:
    """What is added to a weight [out, in]: ``up`` [out, rank] times ``down`` [rank, in]."""

    down: StoredTensor
    up: StoredTensor


def split_adapters(weights: WeightFiles) -> tuple[dict[str, StoredAdapter], WeightFiles]:
    """Return the adapters of a file by the weights that they sit on, and the whole weights in it.

    Raises:
        ValueError: Half of an adapter is missing.
    """
    tensors = weights.tensors
    halves = {name: tensor for name, tensor in tensors.items() if name.endswith((DOWN, UP))}
    owners = sorted({name.removesuffix(DOWN).removesuffix(UP) for name in halves})
    for name in (owner + end for owner in owners for end in (DOWN, UP)):
        if name not in halves:
            raise ValueError(f"{weights.path}: {name} is missing; copy the file again")
    adapters = {
        f"{owner}.weight": StoredAdapter(down=halves[owner + DOWN], up=halves[owner + UP])
        for owner in owners
    }
    rest = {name: tensor for name, tensor in tensors.items() if name not in halves}
    return adapters, replace(weights, tensors=rest)


@contextmanager
def verified(bases: Sequence[Base]) -> Iterator[None]:
    """Verify bases beside the block, which may read from them; what it read counts once the block has ended.

    Raises:
        FileNotFoundError: A base, or a file of one, is gone.
        ValueError: A file has changed; rather than what the block made of it.
    """
    check = in_background(lambda: [base.verify() for base in bases])
    try:
        yield
    except Exception:
        check.result()
        raise
    check.result()


def with_base(
    own: Mapping[str, StoredTensor],
    adapters: Mapping[str, StoredAdapter],
    tensors: Mapping[str, StoredTensor],
) -> dict[str, StoredTensor]:
    """Return all tensors: those of the base under what was trained.

    Args:
        own: Weights that were trained.
        adapters: On weights of the base.
        tensors: Of the base.

    Raises:
        ValueError: An adapter does not fit its weight.
    """
    changed = {name: _adapted(name, tensors[name], each) for name, each in adapters.items()}
    return {**tensors, **changed, **own}


def _adapted(name: str, weight: StoredTensor, adapter: StoredAdapter) -> StoredTensor:
    down, up = adapter.down, adapter.up
    fits = (up.shape[0], down.shape[1]) == weight.shape and up.shape[1:] == down.shape[:1]
    if not fits:
        raise ValueError(
            f"{down.path}: adapter of {name} is {list(up.shape)} times {list(down.shape)}, the weight of the base "
            f"{list(weight.shape)}; it was trained on another network"
        )

    def read() -> Tensor:
        return with_adapter(weight.read(), down.read(), up.read())

    return replace(weight, path=down.path, dtype=torch.float32, read=read)


def _files(path: Path) -> list[Path]:
    """Return the files of a weight file, or of a folder of arrays."""
    return [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]


def _describe(path: Path) -> StoredFile:
    stats = path.stat()
    with (
        _reading
    ):  # by one thread: a second one waits for the digest instead of reading every byte, too
        sha256 = _digest(path, stats.st_size, stats.st_mtime_ns, stats.st_ino)
    return StoredFile(num_bytes=stats.st_size, sha256=sha256)


_reading = Lock()


@cache
def _digest(path: Path, num_bytes: int, changed_ns: int, number: int) -> str:
    """Return the digest of a file; one of the same length, time and number on the disk is not read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
