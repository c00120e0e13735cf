"""Tensors that ranks write as shards are read by any number of ranks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from pi0.ript.engine.process_group import ProcessGroup
from pi0.ript.engine.sharded_tensors import StoredShards, write_shards
from tests.policy_parts import raises_one_line
from tests.ranks import outcomes, run_ranks
from tests.train.checkpoints.test_store import no_file_larger_than

# Five rows do not divide by two or three, and only rank 0 holds part of a single row.
WHOLE = {
    "matrix": torch.arange(10.0).reshape(5, 2),
    "row": torch.tensor([7.0]),
    "step": torch.tensor(3.0),
}


def shard(process_group: ProcessGroup, name: str) -> Tensor:
    mesh = init_device_mesh("cpu", (process_group.world_size,))
    return distribute_tensor(WHOLE[name], mesh, [Shard(0)])


def write(process_group: ProcessGroup, folder: Path) -> None:
    tensors = {
        "matrix": shard(process_group, "matrix"),
        "row": shard(process_group, "row"),
        "step": WHOLE["step"],
    }
    write_shards(folder, tensors, process_group)


def read_parts(process_group: ProcessGroup, folder: Path) -> dict[str, Tensor]:
    likes = {"matrix": torch.zeros_like(shard(process_group, "matrix")), "row": WHOLE["row"]}
    parts: dict[str, Any] = StoredShards(folder).parts_like(likes)
    return {
        name: getattr(part, "to_local", lambda part=part: part)() for name, part in parts.items()
    }


def write_to_a_full_disk(process_group: ProcessGroup, folder: Path) -> None:
    with no_file_larger_than(100 if process_group.rank == 1 else 2**20):
        write(process_group, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "shards"
    run_ranks(3, write, folder)
    return folder


def test_each_rank_writes_one_safetensors_file_and_nothing_else(folder: Path):
    files = sorted(folder.iterdir())

    assert [file.suffix for file in files] == [".safetensors"] * 3
    rows = []
    for file in files:
        with safe_open(file, framework="pt") as content:
            rows.append(content.get_slice("matrix").get_shape()[0])
    assert rows == [2, 2, 1]  # five rows on three ranks


def test_a_single_process_reads_whole_tensors(folder: Path):
    stored = StoredShards(folder)

    assert stored.keys() == WHOLE.keys()
    assert all(torch.equal(stored[name], tensor) for name, tensor in WHOLE.items())


def test_other_ranks_read_what_they_hold(folder: Path):
    first, second = run_ranks(2, read_parts, folder)

    assert torch.equal(first["matrix"], WHOLE["matrix"][:3])
    assert torch.equal(second["matrix"], WHOLE["matrix"][3:])
    assert torch.equal(second["row"], WHOLE["row"])
    assert torch.equal(second["step"], WHOLE["step"])


def test_a_missing_file_leaves_no_silent_hole(folder: Path, tmp_path: Path):
    for file in sorted(folder.iterdir())[::2]:
        (tmp_path / file.name).write_bytes(file.read_bytes())

    assert StoredShards(tmp_path)["matrix"].isnan().any()


def test_a_damaged_file_is_one_line(folder: Path, tmp_path: Path):
    (tmp_path / "shard-00001-model-00001-of-00001.safetensors").write_bytes(b"no header")

    with pytest.raises(ValueError, match="holds no shards") as caught:
        StoredShards(tmp_path)

    assert raises_one_line(caught.value, str(tmp_path))


def test_a_full_disk_of_one_rank_is_the_same_line_everywhere(tmp_path: Path):
    results = outcomes(2, write_to_a_full_disk, tmp_path / "shards", may_fail=True)

    assert [is_done for is_done, _ in results] == [False, False]
    assert "rank 1: " in results[0][1]
    assert "\n" not in results[0][1]
