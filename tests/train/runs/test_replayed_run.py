"""Whole toy runs that replay: what they report, what a checkpoint holds, and how they go on after a kill."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from pi0.ript.config.algo import AlgoConfig
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.interfaces import Ranks
from pi0.ript.learner.replay import MOST_GROUPS
from pi0.ript.train import trainer as trainer_module
from pi0.ript.train.checkpoints.replay_files import FOLDER, load_replay
from pi0.ript.train.checkpoints.store import find_last
from tests.learner.samples import are_equal
from tests.ranks import run_ranks
from tests.train import toy_training
from tests.train.toy_training import NUM_STEPS, Killer, changed, repeatable_metrics, train

CONFIG = changed(toy_training.CONFIG, algo={"lr": 1e-4, "replay_steps": 2})
WITHOUT = changed(CONFIG, algo={"replay_steps": 0})


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that nobody disturbed."""
    run_dir = tmp_path_factory.mktemp("replay") / "run"
    train(CONFIG, run_dir)
    return run_dir


def killed_after(step: int, run_dir: Path, to: Path) -> Path:
    """Return a copy of a run as it lies there if it is killed before the update of the step after this one."""
    shutil.copytree(run_dir, to, symlinks=True)
    for later in range(step + 1, NUM_STEPS + 1):
        shutil.rmtree(to / "checkpoints" / str(later))
    return to


class TestMetrics:
    def test_from_the_second_step_on_they_tell_of_replayed_samples(self, run_dir: Path):
        first, *others = repeatable_metrics(run_dir)

        assert not {"update/num_replayed", "update/effective_samples"} & first.keys()
        assert all(line["update/num_replayed"] > 0 for line in others)
        assert all(0 < line["update/effective_samples"] <= 1 for line in others)
        assert all(line["update/replay_kl"] > 0 for line in others)

    def test_new_samples_alone_are_audited_and_decide_on_the_learning_rate(self, run_dir: Path):
        for line in repeatable_metrics(run_dir):
            assert line["update/log_ratio_max"] == 0
            assert line["update/rollout_log_ratio_std"] < 1e-4
            assert line["update/lr_share"] == line["rollout/groups_accepted"] / 2
            assert line["update/num_optimizer_steps"] == 2

    def test_the_first_step_is_that_of_a_run_without_replay(self, run_dir: Path, tmp_path: Path):
        train(WITHOUT, tmp_path)

        assert repeatable_metrics(run_dir)[0] == repeatable_metrics(tmp_path)[0]
        assert repeatable_metrics(run_dir)[1] != repeatable_metrics(tmp_path)[1]
        assert not (tmp_path / "checkpoints/4" / FOLDER).exists()


class TestCheckpoint:
    def test_it_holds_the_samples_of_the_last_two_steps(self, run_dir: Path):
        for step, expected in ((0, []), (1, [1]), (2, [1, 2]), (4, [3, 4])):
            kept = load_replay(run_dir / f"checkpoints/{step}", SINGLE_PROCESS)
            assert [each.step for each in kept] == expected
            for each in kept:
                assert np.unique(each.samples.groups // MOST_GROUPS).tolist() == [each.step]

    @pytest.mark.parametrize("last_step", range(NUM_STEPS))
    def test_killed_in_an_update_and_resumed_a_run_ends_with_the_same_bits(
        self, run_dir: Path, tmp_path: Path, last_step: int, monkeypatch: pytest.MonkeyPatch
    ):
        with monkeypatch.context() as patch:
            patch.setattr(trainer_module, "update", Killer(after=last_step))
            with pytest.raises(KeyboardInterrupt):
                train(CONFIG, tmp_path)

        train(CONFIG, tmp_path)

        assert repeatable_metrics(tmp_path) == repeatable_metrics(run_dir)
        for name in ("pretrained_model/model", "training_state/optimizer", f"{FOLDER}/rank_0"):
            path = Path("checkpoints", str(NUM_STEPS), f"{name}.safetensors")
            assert are_equal(load_file(tmp_path / path), load_file(run_dir / path)), name


class TestImitation:
    def test_killed_and_resumed_it_ends_with_the_same_bits(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        config = changed(CONFIG, algo={"objective": "bc", "kl_stop": AlgoConfig().kl_stop})
        train(config, tmp_path / "whole")
        with monkeypatch.context() as patch:
            patch.setattr(trainer_module, "update", Killer(after=2))
            with pytest.raises(KeyboardInterrupt):
                train(config, tmp_path / "killed")

        train(config, tmp_path / "killed")

        whole = repeatable_metrics(tmp_path / "whole")
        assert repeatable_metrics(tmp_path / "killed") == whole
        assert [line.get("update/num_replayed", 0) > 0 for line in whole] == [
            False,
            True,
            True,
            True,
        ]
        kept = load_replay(tmp_path / "whole/checkpoints/4", SINGLE_PROCESS)
        assert all(each.samples.is_success.all() for each in kept)


class TestDamage:
    @pytest.mark.parametrize("damage", ["folder gone", "arrays gone", "texts cut", "one bit"])
    def test_a_run_goes_on_without_what_cannot_be_read_with_one_warning(
        self, run_dir: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
    ):
        damaged = killed_after(2, run_dir, tmp_path / "run")
        folder = damaged / "checkpoints/2" / FOLDER
        arrays, texts = folder / "rank_0.safetensors", folder / "rank_0.json"
        if damage == "folder gone":
            shutil.rmtree(folder)
        elif damage == "arrays gone":
            arrays.unlink()
        elif damage == "texts cut":
            texts.write_bytes(texts.read_bytes()[:-20])
        else:
            content = bytearray(arrays.read_bytes())
            content[-1] ^= 1
            arrays.write_bytes(content)

        with caplog.at_level(logging.WARNING):
            assert find_last(damaged).name == "2", "the checkpoint itself is whole"
            train(CONFIG, damaged)

        [record] = [r for r in caplog.records if "samples of earlier steps" in r.getMessage()]
        assert "\n" not in record.getMessage()
        assert "replay" in record.getMessage()
        third, fourth = repeatable_metrics(damaged)[2:]
        assert "update/num_replayed" not in third
        assert fourth["update/num_replayed"] > 0
        assert load_replay(damaged / "checkpoints/4", SINGLE_PROCESS)

    def test_a_checkpoint_of_a_run_without_replay_lacks_nothing(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ):
        train(changed(WITHOUT, num_train_steps=1), tmp_path)

        with caplog.at_level(logging.WARNING):
            train(changed(WITHOUT, num_train_steps=2), tmp_path)

        assert not [r for r in caplog.records if "earlier steps" in r.getMessage()]


def _train_on_a_rank(ranks: Ranks, run_dir: Path, num_steps: int) -> None:
    train(changed(CONFIG, num_train_steps=num_steps), run_dir, ranks=ranks)


@pytest.mark.slow
@pytest.mark.parametrize("second", [1, 2, 3])
def test_two_ranks_keep_what_one_keeps_and_any_number_goes_on(
    run_dir: Path, tmp_path: Path, second: int
):
    ranked = tmp_path / "run"
    run_ranks(2, _train_on_a_rank, ranked, 3)
    kept = load_replay(ranked / "checkpoints/3", SINGLE_PROCESS)
    alone = load_replay(run_dir / "checkpoints/3", SINGLE_PROCESS)
    assert [each.step for each in kept] == [each.step for each in alone] == [2, 3]
    for one, other in zip(kept, alone, strict=True):
        assert np.array_equal(one.samples.groups, other.samples.groups)
        assert np.array_equal(one.samples.seeds, other.samples.seeds)
    names = [path.name for path in (ranked / "checkpoints/3" / FOLDER).iterdir()]
    assert sorted(names) == [f"rank_{n}.{end}" for n in (0, 1) for end in ("json", "safetensors")]

    if second == 1:
        train(CONFIG, ranked)
    else:
        run_ranks(second, _train_on_a_rank, ranked, NUM_STEPS)

    path = "checkpoints/4/pretrained_model/model.safetensors"
    found, expected = (load_file(folder / path) for folder in (ranked, run_dir))
    assert max(float((found[n] - expected[n]).abs().max()) for n in expected) < 1e-5
    assert (
        repeatable_metrics(ranked)[3]["update/num_replayed"]
        == repeatable_metrics(run_dir)[3]["update/num_replayed"]
    )
