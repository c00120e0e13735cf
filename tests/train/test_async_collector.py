"""Practising one step ahead of the updates."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from pi0.ript.config.schema import FeaturesConfig
from pi0.ript.train import trainer as trainer_module
from tests.cores import own_core
from tests.learner.samples import are_equal, weights_of
from tests.policy_parts import small_policy
from tests.train import toy_training
from tests.train.toy_training import (
    NUM_STEPS,
    Killer,
    changed,
    repeatable_metrics,
    tensors,
    train,
    weights,
)
from tests.train.toy_world import CountingPool, toy_trainer

CONFIG = replace(
    changed(toy_training.CONFIG, overlap=True), features=FeaturesConfig(use_ript_vla_runner=True)
)


@pytest.fixture(autouse=True, scope="module")
def one_core() -> Iterator[None]:
    """With and without overlap an update uses as many threads, so that bits can be compared."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {own_core()})
    yield
    os.sched_setaffinity(0, cores)


@pytest.fixture(scope="module")
def run_dir(one_core: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that nobody disturbed."""
    run_dir = tmp_path_factory.mktemp("overlap")
    train(CONFIG, run_dir)
    return run_dir


class TestWhatActs:
    def test_every_step_learns_something(self, run_dir: Path):
        assert all(line["update/num_optimizer_steps"] == 2 for line in repeatable_metrics(run_dir))

    def test_weights_that_act_are_one_update_behind_from_the_second_step_on(self, run_dir: Path):
        lines = repeatable_metrics(run_dir)

        assert [line["rollout/staleness_updates"] for line in lines] == [0, 1, 1, 1]
        assert "update/stale_kl" not in lines[0], "the same weights acted"
        assert all(line["update/stale_kl"] > 1e-6 for line in lines[1:])

    def test_rows_are_checked_against_the_weights_that_drew_them(self, run_dir: Path):
        # the noise of 3 denoise steps, 4 actions, 7 dimensions over at least 8 rows: 672 numbers
        for line in repeatable_metrics(run_dir):
            assert abs(line["update/z_mean"]) < 5 / 672**0.5
            assert line["update/off_mask_error"] < 1e-5
            assert line["update/log_ratio_max"] == 0
            assert line["update/rollout_log_ratio_std"] < 1e-4

    def test_the_distance_from_what_acted_is_what_the_update_before_moved(self, run_dir: Path):
        # measured on other rows, so of the same size only
        lines = repeatable_metrics(run_dir)
        for before, line in pairwise(lines):
            assert 0.2 < line["update/stale_kl"] / before["update/kl"] < 5

    def test_at_the_beginning_the_base_acts_and_nothing_is_stored_for_it(self, run_dir: Path):
        assert not tensors(run_dir, 0, "training_state/acting")

    @pytest.mark.parametrize("step", range(1, NUM_STEPS + 1))
    def test_a_checkpoint_holds_the_weights_that_act_next(self, run_dir: Path, step: int):
        acting = tensors(run_dir, step, "training_state/acting").values()
        before = weights(run_dir, step - 1).values()

        assert len(acting) > 10
        # every acting tensor is one of the weights that the policy had an update ago
        for tensor in acting:
            assert any(tensor.shape == w.shape and torch.equal(tensor, w) for w in before)


class TestSameNumbers:
    def test_weights_that_do_not_move_give_the_run_without_overlap(self, tmp_path: Path):
        """A learning rate that float32 rounds to nothing leaves both runs with the same weights."""
        ahead, in_turn = tmp_path / "ahead", tmp_path / "in_turn"
        first = train(changed(CONFIG, algo={"lr": 1e-300}), ahead)
        second = train(changed(CONFIG, algo={"lr": 1e-300}, overlap=False), in_turn)

        assert are_equal(weights_of(first), weights_of(second))
        own = {"rollout/staleness_updates", "update/stale_kl"}
        for mine, theirs in zip(
            repeatable_metrics(ahead), repeatable_metrics(in_turn), strict=True
        ):
            assert {k: v for k, v in mine.items() if k not in own} == {
                k: v for k, v in theirs.items() if k not in own
            }
        assert repeatable_metrics(ahead)[1]["update/grad_norm"] > 0
        assert repeatable_metrics(ahead)[1]["update/stale_kl"] == 0

    def test_the_first_step_is_that_of_the_run_without_overlap(self, run_dir: Path, tmp_path: Path):
        train(changed(CONFIG, overlap=False), tmp_path)

        assert repeatable_metrics(run_dir)[0] == repeatable_metrics(tmp_path)[0]
        assert are_equal(weights(run_dir, 1), weights(tmp_path, 1))
        assert not are_equal(weights(run_dir, 3), weights(tmp_path, 3))

    @pytest.mark.parametrize("last_step", range(NUM_STEPS))
    def test_killed_in_an_update_and_resumed_a_run_ends_with_the_same_bits(
        self, run_dir: Path, tmp_path: Path, last_step: int, monkeypatch: pytest.MonkeyPatch
    ):
        with monkeypatch.context() as patch:
            patch.setattr(trainer_module, "update", Killer(after=last_step))
            with pytest.raises(KeyboardInterrupt):
                train(CONFIG, tmp_path)

        with toy_trainer(CONFIG, small_policy(), tmp_path, resumes=True) as (trainer, _):
            assert trainer.progress.step == last_step
            trainer.train()

        assert repeatable_metrics(tmp_path) == repeatable_metrics(run_dir)
        for file in ("pretrained_model/model", "training_state/optimizer", "training_state/acting"):
            mine, theirs = (tensors(folder, NUM_STEPS, file) for folder in (tmp_path, run_dir))
            assert are_equal(mine, theirs), file

    def test_a_run_that_is_prolonged_ends_like_one_that_was_long_from_the_start(
        self, run_dir: Path, tmp_path: Path
    ):
        train(changed(CONFIG, num_train_steps=2), tmp_path)

        train(CONFIG, tmp_path)

        assert repeatable_metrics(tmp_path) == repeatable_metrics(run_dir)
        assert are_equal(weights(tmp_path, NUM_STEPS), weights(run_dir, NUM_STEPS))


class TestTwoThingsAtOnce:
    def test_simulators_work_while_the_learner_updates(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv(
            "TOY_WAIT_S", "0.02"
        )  # so that no collection is done before its update begins
        requests: list[int] = []
        with toy_trainer(CONFIG, small_policy(), tmp_path) as (trainer, pool):
            monkeypatch.setattr(trainer_module, "update", _waiting_for_simulators(pool, requests))
            trainer.train()

        # one number per update; each waited for simulators to go on, but the last: nothing is ahead of it
        assert len(requests) == NUM_STEPS
        assert all(count > 0 for count in requests[:-1])
        assert requests[-1] == 0

    def test_nothing_is_under_way_after_an_interruption(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(trainer_module, "update", Killer(after=1))
        with toy_trainer(CONFIG, small_policy(), tmp_path) as (trainer, pool):
            with pytest.raises(KeyboardInterrupt):
                trainer.train()

            count = pool.num_requests
            time.sleep(0.2)
            assert pool.num_requests == count

    def test_what_goes_wrong_while_collecting_ends_the_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        with toy_trainer(CONFIG, small_policy(), tmp_path) as (trainer, pool):
            monkeypatch.setattr(trainer_module, "update", _breaking(pool))
            with pytest.raises(RuntimeError, match="the simulators are gone"):
                trainer.train()

            assert 1 <= trainer.progress.step < NUM_STEPS


def _waiting_for_simulators(pool: CountingPool, requests: list[int]):
    real = trainer_module.update

    def update(*arguments, **named):
        start, deadline = pool.num_requests, time.monotonic() + 20
        is_last = len(requests) == NUM_STEPS - 1
        while not is_last and pool.num_requests == start and time.monotonic() < deadline:
            time.sleep(0.01)
        requests.append(pool.num_requests - start)
        return real(*arguments, **named)

    return update


def _breaking(pool: CountingPool):
    real = trainer_module.update

    def update(*arguments, **named):
        pool.is_broken = True
        return real(*arguments, **named)

    return update


def test_a_trainer_without_overlap_reports_no_staleness(tmp_path: Path):
    train(changed(CONFIG, overlap=False, num_train_steps=2), tmp_path)

    assert [line["rollout/staleness_updates"] for line in repeatable_metrics(tmp_path)] == [0, 0]
    assert tensors(tmp_path, 2, "training_state/acting") == {}
