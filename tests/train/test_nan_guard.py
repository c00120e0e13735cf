"""A failed update leaves its batch behind, one line, and earlier checkpoints as they were."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from pi0.policy import Pi0Policy
from pi0.ript import build
from pi0.ript.algo.flow_sde import FlowSde
from pi0.ript.algo.objective import Indices, Terms
from pi0.ript.config.schema import AlgoConfig
from pi0.ript.config.sections import OptimizerConfig
from pi0.ript.engine.ddp import DdpEngine
from pi0.ript.engine.process_group import ProcessGroup
from pi0.ript.engine.single import SingleEngine
from pi0.ript.learner.update import update
from pi0.ript.scripts.exits import is_user_error
from pi0.ript.train.checkpoints.store import find_last
from pi0.ript.train.nan_guard import InspectionError, inspectable, require_finite_metrics
from pi0.ript.train.run import train_run
from tests.learner.samples import SAMPLING, are_equal, draw_batch, weights_of
from tests.learner.updates import ALGO
from tests.policy_parts import raises_one_line, small_policy
from tests.ranks import run_ranks
from tests.train.toy_training import ONE_GROUP
from tests.train.toy_world import toy_trainer


def poison(policy: Pi0Policy) -> None:
    with torch.no_grad():
        policy.network.expert_parameters()[0].view(-1)[0] = torch.nan


def evidence(run_dir: Path, step: int) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    folder = run_dir / "inspection" / f"step_{step}"
    reason = json.loads((folder / "decision.json").read_text())
    return load_file(folder / "decision.safetensors"), reason


def test_actions_end_practice_and_leave_what_the_policy_saw_and_answered(tmp_path: Path):
    policy = small_policy()
    with toy_trainer(ONE_GROUP, policy, tmp_path) as (trainer, pool):
        trainer.checkpoints.save_beginning()
        poison(policy)
        with pytest.raises(ValueError, match="actions not finite") as caught:
            trainer.train()
        num_requests = pool.num_requests

    assert raises_one_line(caught.value, "step 1", "libero_goal task 7", "checkpoints/last")
    assert is_user_error(caught.value)
    kept, reason = evidence(tmp_path, step=1)
    assert np.isnan(kept["actions"]).any()
    assert kept["images"].shape[0] == 2
    assert (reason["suite"], reason["task_id"]) == ("libero_goal", 7)
    assert num_requests == 2, "both episodes were restored and nothing was executed"
    assert find_last(tmp_path).name == "0"


class Broken(FlowSde):
    """The default rule with one number that is not what it should be."""

    def __init__(self, algo: AlgoConfig, what: str) -> None:
        super().__init__(algo)
        self._what = what

    def terms(self, samples: Indices, epoch: int) -> Terms:
        if self._what == "log ratios":
            self._mean_old = self._mean_old * torch.nan
        terms = super().terms(samples, epoch)
        if self._what == "loss":
            return replace(terms, loss=terms.loss * torch.nan)
        # the square root is 0 and its slope is infinite
        return replace(terms, loss=terms.loss + torch.sqrt(0.0 * terms.loss))


@pytest.mark.parametrize("what", ["loss", "log ratios", "gradient"])
def test_an_update_ends_the_run_and_leaves_its_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
):
    monkeypatch.setattr(build, "build_objective", lambda algo: Broken(algo, what))
    policy = small_policy()
    before = weights_of(policy)
    with toy_trainer(ONE_GROUP, policy, tmp_path) as (trainer, pool):
        trainer.checkpoints.save_beginning()
        pool.succeeds = lambda slot: slot % 2 == 0
        with pytest.raises(ValueError, match=f"{what}.* (not finite|is nan)") as caught:
            train_run(trainer, tmp_path)

    assert raises_one_line(caught.value, "step 1", "the batch is in", "checkpoints/last")
    assert is_user_error(caught.value)
    kept = load_file(tmp_path / "inspection" / "step_1" / "batch.safetensors")
    assert set(kept["advantages"].tolist()) == {-1.0, 1.0}
    assert find_last(tmp_path).name == "0"
    assert are_equal(before, weights_of(policy))


@pytest.mark.parametrize("step", [0, 1])
def test_looks_end_evaluation_and_practice(tmp_path: Path, step: int):
    with toy_trainer(ONE_GROUP, small_policy(), tmp_path) as (trainer, pool):
        trainer.checkpoints.save_beginning()
        pool.sees_nothing = True
        with pytest.raises(ValueError, match="proprioception not finite") as caught:
            trainer.evaluate(0) if step == 0 else trainer.train()

    assert raises_one_line(caught.value, f"step {step}", "the decision is in")
    kept, _ = evidence(tmp_path, step)
    assert np.isnan(kept["proprio"]).all()
    assert "actions" not in kept


def test_weights_are_not_saved(tmp_path: Path):
    policy = small_policy()
    poison(policy)
    with (
        toy_trainer(ONE_GROUP, policy, tmp_path) as (trainer, _),
        pytest.raises(ValueError, match="is not saved: weight") as caught,
    ):
        train_run(trainer, tmp_path)

    assert is_user_error(caught.value)
    assert not (tmp_path / "checkpoints").exists()


def test_a_figure_ends_the_run_after_it_was_written_as_null(tmp_path: Path):
    with toy_trainer(ONE_GROUP, small_policy(), tmp_path) as (trainer, pool):
        trainer.checkpoints.save_beginning()
        pool.timings = {"physics_s": float("inf")}
        with pytest.raises(ValueError, match="step 1: speed/worker_0_busy_share is inf") as caught:
            train_run(trainer, tmp_path)

    assert is_user_error(caught.value)
    [line] = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["time/worker_physics_s"] is None
    assert find_last(tmp_path).name == "0"


def test_words_and_finite_figures_pass():
    require_finite_metrics(1, {"rollout/ended_by": "nan", "update/loss": -1e30})


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


def fail_together(ranks: ProcessGroup, run_dir: Path) -> str:
    """Learn from three rows per rank, of which one on rank 1 is broken; return the line of this rank."""
    policy = small_policy()
    batch = draw_batch(policy, 3, seed=ranks.rank)
    if ranks.rank == 1:
        batch.chains[0] = np.nan
    parameters = policy.trainable_parameters(expert_only=True)
    engine = DdpEngine(SingleEngine(parameters, OptimizerConfig(), 1e-4, 0, 1.0), ranks)
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
