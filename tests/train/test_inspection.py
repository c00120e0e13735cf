"""A failed update leaves its batch behind, one line, and earlier checkpoints as they were."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from pi0.ript.algo.flow_sde import FlowSde
from pi0.ript.config.schema import OptimizerConfig
from pi0.ript.engine.replicated import ReplicatedEngine
from pi0.ript.engine.single import SingleEngine
from pi0.ript.engine.team import Team
from pi0.ript.scripts.exits import is_user_error
from pi0.ript.train.inspection import InspectionError, inspectable
from pi0.ript.train.update import update
from tests.policy_parts import raises_one_line, small_policy
from tests.ranks import run_ranks
from tests.train.rows import SAMPLING, draw_batch
from tests.train.updates import ALGO


def test_a_number_that_is_not_finite_leaves_the_batch_behind(tmp_path: Path):
    batch = draw_batch(small_policy(), 3)

    with pytest.raises(ValueError, match="step 7") as caught, inspectable(batch, tmp_path, 7):
        raise FloatingPointError("loss not finite")

    folder = tmp_path / "inspection" / "step_7"
    assert raises_one_line(caught.value, "loss not finite", str(folder), "last good checkpoint")
    assert is_user_error(caught.value)  # programs print the line and leave with status 2
    saved = load_file(folder / "batch.safetensors")
    np.testing.assert_array_equal(saved["chains"], batch.chains)
    np.testing.assert_array_equal(saved["images"][2], batch.observations[2].images)
    assert json.loads((folder / "batch.json").read_text())["tasks"] == list(batch.tasks)
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}


def test_an_update_that_went_well_leaves_nothing(tmp_path: Path):
    with inspectable(draw_batch(small_policy(), 1), tmp_path, 1):
        pass

    assert list(tmp_path.iterdir()) == []


def test_other_errors_pass_through(tmp_path: Path):
    with pytest.raises(KeyError), inspectable(draw_batch(small_policy(), 1), tmp_path, 1):
        raise KeyError("a bug")


def fail_together(ranks: Team, run_dir: Path) -> str:
    """Learn from three rows per rank, of which one on rank 1 is broken; return the line of this rank."""
    policy = small_policy()
    batch = draw_batch(policy, 3, seed=ranks.rank)
    if ranks.rank == 1:
        batch.chains[0] = np.nan
    parameters = policy.trainable_parameters(expert_only=True)
    engine = ReplicatedEngine(SingleEngine(parameters, OptimizerConfig(), 1e-4, 0, 1.0), ranks)
    with pytest.raises(InspectionError) as caught, inspectable(batch, run_dir, 2, ranks):
        update(
            policy, engine, batch, FlowSde(ALGO), ALGO, SAMPLING, 0, has_frozen_prefix=True, ranks=ranks
        )  # fmt: skip
    return str(caught.value)


def test_every_rank_keeps_its_own_rows_of_an_update_that_failed_on_one(tmp_path: Path):
    lines = run_ranks(2, fail_together, tmp_path)

    assert all("velocities of the current policy not finite" in line for line in lines)
    folder = tmp_path / "inspection" / "step_2"
    sound, broken = (load_file(folder / f"batch_rank_{rank}.safetensors") for rank in range(2))
    assert np.isfinite(sound["chains"]).all()
    assert np.isnan(broken["chains"][0]).all()
    assert len(list(folder.iterdir())) == 4
