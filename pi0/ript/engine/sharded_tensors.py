"""Tensors sharded over ranks: sharding them, writing and reading the shards, making them whole."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from packaging.version import Version
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor, distribute_tensor

from pi0.ript.engine.process_group import ProcessGroup
from pi0.ript.interfaces import Ranks

# The first release whose ranks write their shards as safetensors files; older ones lack dcp.hf_storage.
SHARDING_TORCH = (2, 9)


def require_sharding_torch() -> None:
    """Refuse a torch that cannot shard.

    Raises:
        ValueError: One line with the installed release and the needed one.
    """
    if Version(torch.__version__).release < SHARDING_TORCH:
        needed = ".".join(map(str, SHARDING_TORCH))
        raise ValueError(
            f"distributed.strategy fsdp and its checkpoints need torch {needed} or newer, "
            f"not {torch.__version__}; pip install 'torch>={needed}'"
        )


def is_sharded(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether some of the tensors are sharded over ranks."""
    return any(isinstance(tensor, DTensor) for tensor in tensors.values())


def write_shards(folder: Path, tensors: Mapping[str, Tensor], ranks: Ranks) -> None:
    """Write this rank's shards of the tensors; whole tensors are written once.

    A collective: all ranks call it.

    Args:
        folder: The same on every rank, on a file system that all hosts see.
        tensors: Of the same names on every rank.
        ranks: The processes that hold them.

    Raises:
        OSError: A rank cannot write; every rank raises it.
    """
    assert isinstance(ranks, ProcessGroup), "a single process holds whole tensors"
    writer = dcp.hf_storage.HuggingFaceStorageWriter(str(folder), save_distributed=True)
    with _one_failure():
        ranks.collective(
            lambda: save(dict(tensors), storage_writer=writer, process_group=ranks.cpu_group)
        )


class StoredShards(Mapping[str, Tensor]):
    """What ``write_shards`` wrote; every access reads a whole tensor from the files.

    Args:
        folder: Where the files are.

    Raises:
        ValueError: They cannot be read, or not with this torch.
    """

    def __init__(self, folder: Path) -> None:
        require_sharding_torch()
        self._folder = folder
        with self._readable():
            reader = dcp.hf_storage.HuggingFaceStorageReader(str(folder))
            found = reader.read_metadata().state_dict_metadata
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
        """Return every tensor, sharded as in ``likes`` where the shapes agree, else whole.

        Not a collective: each rank reads its own shards.
        """
        return self._read({name: self._blank(name, likes.get(name)) for name in self})

    def _blank(self, name: str, like: Tensor | None) -> Tensor:
        """Return an unread tensor; what no file holds stays NaN, which no engine accepts."""
        facts = self._facts[name]
        dtype = facts.properties.dtype
        fill = torch.nan if dtype.is_floating_point else 0
        if isinstance(like, DTensor) and like.shape == facts.size:
            return torch.full_like(like, fill, dtype=dtype, requires_grad=False)
        return torch.full(tuple(facts.size), fill, dtype=dtype)

    def _read(self, blanks: dict[str, Tensor]) -> dict[str, Tensor]:
        with self._readable(), warnings.catch_warnings():
            # torch takes a rank that reads its own shards for a single process, as intended
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
            reader = dcp.hf_storage.HuggingFaceStorageReader(str(self._folder))
            load(blanks, storage_reader=reader, no_dist=True)
        return blanks

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            with _one_failure():
                yield
        except (SafetensorError, OSError, ValueError, KeyError, AssertionError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{self._folder} holds no shards of tensors ({reason})") from None


@contextmanager
def _one_failure() -> Iterator[None]:
    """Turn the failures of all ranks into the one of the first rank that failed."""
    try:
        yield
    except CheckpointException as error:
        rank, (reason, _) = min(error.failures.items())
        raise OSError(f"rank {rank}: {' '.join(str(reason).split())}") from error


def shard_like(like: Tensor, tensor: Tensor) -> Tensor:
    """Return a copy on the device of ``like``; a whole tensor is sharded over ranks if ``like`` is."""
    copy = tensor.detach().to(like.device, copy=True)
    if not isinstance(like, DTensor) or isinstance(copy, DTensor):
        return copy
    # every rank holds the whole tensor, so that nothing has to be sent
    return distribute_tensor(copy, like.device_mesh, like.placements, src_data_rank=None)


def is_finite(tensor: Tensor) -> bool:
    """Return whether all numbers that this rank holds are finite."""
    held = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return bool(held.isfinite().all())
