"""Tensors spread over ranks: spreading them, writing and reading what every rank holds, making them whole."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor, distribute_tensor

from pi0.ript.engine.process_group import ProcessGroup
from pi0.ript.interfaces import Ranks


def is_sharded(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether ranks hold parts of some tensors."""
    return any(isinstance(tensor, DTensor) for tensor in tensors.values())


def write_shards(folder: Path, tensors: Mapping[str, Tensor], ranks: Ranks) -> None:
    """Write what this rank holds of the tensors; whole ones are written once. All ranks meet here.

    Args:
        folder: The same on every rank, on a file system that all hosts see.
        tensors: Of the same names on every rank.
        ranks: The processes that hold them.

    Raises:
        OSError: A rank cannot write; every rank raises it.
    """
    assert isinstance(ranks, ProcessGroup), "a process on its own holds whole tensors"
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    with _one_failure():
        ranks.meet(
            lambda: save(dict(tensors), storage_writer=writer, process_group=ranks.cpu_group)
        )


class StoredShards(Mapping[str, Tensor]):
    """What ``write_shards`` wrote; every access reads a whole tensor from the files.

    Args:
        folder: Where the files are.

    Raises:
        ValueError: They cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with self._readable():
            found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
        self._facts = {
            name: facts for name, facts in found.items() if isinstance(facts, TensorStorageMetadata)
        }

    def __getitem__(self, name: str) -> Tensor:
        return self._read({name: self._blank(name, None)})[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._facts)

    def __len__(self) -> int:
        return len(self._facts)

    def parts_like(self, likes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every tensor, spread over ranks as ``likes`` has it where the shapes agree, else whole.

        Nobody waits for anybody: each rank reads its own parts.
        """
        return self._read({name: self._blank(name, likes.get(name)) for name in self})

    def _blank(self, name: str, like: Tensor | None) -> Tensor:
        """Return room for a tensor; what no file holds stays NaN, which no engine accepts."""
        facts = self._facts[name]
        dtype = facts.properties.dtype
        fill = torch.nan if dtype.is_floating_point else 0
        if isinstance(like, DTensor) and like.shape == facts.size:
            return torch.full_like(like, fill, dtype=dtype, requires_grad=False)
        return torch.full(tuple(facts.size), fill, dtype=dtype)

    def _read(self, blanks: dict[str, Tensor]) -> dict[str, Tensor]:
        with self._readable(), warnings.catch_warnings():
            # a rank that reads for itself is taken for a process on its own, which is what it is
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
            reader = HuggingFaceStorageReader(str(self._folder))
            load(blanks, storage_reader=reader, no_dist=True)
        return blanks

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            with _one_failure():
                yield
        except (SafetensorError, OSError, ValueError, KeyError, AssertionError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{self._folder} holds no pieces of tensors ({reason})") from None


@contextmanager
def _one_failure() -> Iterator[None]:
    """Turn the failures of all ranks into the one of the first rank that failed."""
    try:
        yield
    except CheckpointException as error:
        rank, (reason, _) = min(error.failures.items())
        raise OSError(f"rank {rank}: {' '.join(str(reason).split())}") from error


def shard_like(like: Tensor, tensor: Tensor) -> Tensor:
    """Return a copy on the device of ``like``; a whole tensor is spread over ranks if that one is."""
    copy = tensor.detach().to(like.device, copy=True)
    if not isinstance(like, DTensor) or isinstance(copy, DTensor):
        return copy
    # every rank holds the whole tensor, so that nothing has to be sent
    return distribute_tensor(copy, like.device_mesh, like.placements, src_data_rank=None)


def is_finite(tensor: Tensor) -> bool:
    """Return whether all numbers that this rank holds are finite."""
    held = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return bool(held.isfinite().all())
