"""A run goes on with another number of ranks and another way of spreading what is trained."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from pi0.ript.config.schema import DistributedConfig, Strategy
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.interfaces import Ranks
from pi0.ript.train.checkpoints.folder import load_training_state
from pi0.ript.train.checkpoints.store import find_last
from tests.ranks import run_ranks
from tests.train import toy_training
from tests.train.toy_training import changed, train, weights

CONFIG = changed(
    toy_training.CONFIG,
    algo={"demo_batch_size": 6, "lr": 1e-4},
    num_train_steps=3,
    keep_checkpoints=2,
)
ProcessGroup = tuple[int, Strategy]  # number of ranks, strategy


def train_on_a_rank(ranks: Ranks, run_dir: Path, num_steps: int, strategy: Strategy) -> None:
    """Train until ``num_steps`` from wherever the run stands."""
    distributed = DistributedConfig(strategy=strategy)
    config = replace(changed(CONFIG, num_train_steps=num_steps), distributed=distributed)
    train(config, run_dir, ranks=ranks)


def train_with(process_group: ProcessGroup, run_dir: Path, num_steps: int) -> None:
    world_size, strategy = process_group
    if world_size == 1:
        train_on_a_rank(SINGLE_PROCESS, run_dir, num_steps, strategy)
    else:
        run_ranks(world_size, train_on_a_rank, run_dir, num_steps, strategy)


def farthest(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    assert found.keys() == expected.keys()
    return max(float((found[name] - expected[name]).abs().max()) for name in expected)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    train_with((1, "auto"), run_dir, 3)
    return run_dir


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> dict[ProcessGroup, Path]:
    """Two steps by each of three teams."""
    process_groups: tuple[ProcessGroup, ...] = ((1, "auto"), (2, "ddp"), (2, "fsdp"))
    runs = {
        process_group: tmp_path_factory.mktemp("begun") / "run" for process_group in process_groups
    }
    for process_group, run_dir in runs.items():
        train_with(process_group, run_dir, 2)
    return runs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((2, "ddp"), (1, "auto")),
        ((1, "auto"), (3, "ddp")),
        ((1, "auto"), (2, "fsdp")),
        ((2, "ddp"), (2, "fsdp")),
        ((2, "fsdp"), (2, "ddp")),
        ((2, "fsdp"), (3, "fsdp")),
        ((2, "fsdp"), (1, "auto")),
    ],
    ids=lambda process_group: f"{process_group[0]}-{process_group[1]}",
)
def test_resumed_run_ends_with_the_weights_of_the_undisturbed_one(
    undisturbed: Path,
    begun: dict[ProcessGroup, Path],
    tmp_path: Path,
    first: ProcessGroup,
    second: ProcessGroup,
):
    run_dir = tmp_path / "run"
    shutil.copytree(begun[first], run_dir, symlinks=True)

    train_with(second, run_dir, 3)

    expected = weights(undisturbed, 3)
    assert farthest(weights(run_dir, 3), expected) < 1e-5
    # Two optimizer steps of up to 1e-4, times the share of the six wanted groups that were mixed.
    assert farthest(weights(run_dir, 2), expected) > 5e-5, "the last step has moved nothing"
    state, whole = (load_training_state(find_last(run)) for run in (run_dir, undisturbed))
    assert state.engine.num_steps == whole.engine.num_steps == 6
    moments = dict(state.engine.tensors)
    assert farthest(moments, dict(whole.engine.tensors)) < 1e-5


def test_optimizer_that_is_spread_is_stored_by_the_ranks_that_hold_it(
    begun: dict[ProcessGroup, Path],
):
    stored = begun[2, "fsdp"] / "checkpoints/2/training_state"

    assert sorted(path.name for path in stored.iterdir()) == [
        "acting.safetensors", "objective.safetensors", "optimizer", "state.json",
    ]  # fmt: skip
    shards = list((stored / "optimizer").iterdir())
    assert [path.suffix for path in shards] == [".safetensors"] * 2
    sizes = [path.stat().st_size for path in shards]
    assert max(sizes) < 0.6 * sum(sizes)
