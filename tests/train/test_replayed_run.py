"""Whole toy runs that replay: what they report, what a checkpoint holds, and how they go on after a kill."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from pi0.ript.config.schema import (
    AlgoConfig,
    EvaluationConfig,
    LoggingConfig,
    PolicyConfig,
    TaskConfig,
    TrainConfig,
    TrainingConfig,
)
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.interfaces import Ranks
from pi0.ript.learner.replay import MOST_GROUPS
from pi0.ript.train import trainer as trainer_module
from pi0.ript.train.checkpoints.replay_files import FOLDER, load_replay
from pi0.ript.train.checkpoints.store import find_last
from tests.learner.samples import are_equal
from tests.policy_parts import small_policy
from tests.ranks import run_ranks
from tests.train.toy_world import toy_trainer

NUM_STEPS = 4
MACHINE_DEPENDENT = ("time/", "speed/", "memory/")
CONFIG = TrainConfig(
    task=TaskConfig(task_name="turn_on_the_stove", max_episode_length=12),
    policy=PolicyConfig(device="cpu", denoise_steps=3),
    algo=AlgoConfig(
        rloo_batch_size=4, demo_batch_size=2, num_epochs=1, num_minibatches=2, warmup_steps=0, lr=1e-4,
        kl_stop=None, replay_steps=2,
    ),
    training=TrainingConfig(num_train_steps=NUM_STEPS, save_freq=1, keep_checkpoints=9),
    evaluation=EvaluationConfig(rollouts_per_task=0),
    logging=LoggingConfig(tensorboard=False),
)  # fmt: skip
WITHOUT = replace(CONFIG, algo=replace(CONFIG.algo, replay_steps=0))


def run(
    config: TrainConfig, run_dir: Path, *, resumes: bool = False, ranks: Ranks = SINGLE_PROCESS
) -> None:
    with toy_trainer(config, small_policy(), run_dir, resumes=resumes, ranks=ranks) as (trainer, _):
        trainer.checkpoints.save_beginning()
        trainer.train()


def metrics(run_dir: Path) -> list[dict[str, float]]:
    """Return the metrics that do not depend on the machine."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if not key.startswith(MACHINE_DEPENDENT)}
        for line in lines
    ]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that nobody disturbed."""
    run_dir = tmp_path_factory.mktemp("replay") / "run"
    run(CONFIG, run_dir)
    return run_dir


def killed_after(step: int, run_dir: Path, to: Path) -> Path:
    """Return a copy of a run as it lies there if it is killed before the update of the step after this one."""
    shutil.copytree(run_dir, to, symlinks=True)
    for later in range(step + 1, NUM_STEPS + 1):
        shutil.rmtree(to / "checkpoints" / str(later))
    return to


class TestMetrics:
    def test_from_the_second_step_on_they_tell_of_replayed_samples(self, run_dir: Path):
        first, *others = metrics(run_dir)

        assert not {"update/num_replayed", "update/effective_samples"} & first.keys()
        assert all(line["update/num_replayed"] > 0 for line in others)
        assert all(0 < line["update/effective_samples"] <= 1 for line in others)
        assert all(line["update/replay_kl"] > 0 for line in others)

    def test_new_samples_alone_are_audited_and_decide_on_the_learning_rate(self, run_dir: Path):
        for line in metrics(run_dir):
            assert line["update/log_ratio_max"] == 0
            assert line["update/rollout_log_ratio_std"] < 1e-4
            assert line["update/lr_share"] == line["rollout/groups_accepted"] / 2
            assert line["update/num_optimizer_steps"] == 2

    def test_the_first_step_is_that_of_a_run_without_replay(self, run_dir: Path, tmp_path: Path):
        run(WITHOUT, tmp_path)

        assert metrics(run_dir)[0] == metrics(tmp_path)[0]
        assert metrics(run_dir)[1] != metrics(tmp_path)[1]
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
            patch.setattr(trainer_module, "update", _Killer(after=last_step))
            with pytest.raises(KeyboardInterrupt):
                run(CONFIG, tmp_path)

        run(CONFIG, tmp_path, resumes=True)

        assert metrics(tmp_path) == metrics(run_dir)
        for name in ("pretrained_model/model", "training_state/optimizer", f"{FOLDER}/rank_0"):
            path = Path("checkpoints", str(NUM_STEPS), f"{name}.safetensors")
            assert are_equal(load_file(tmp_path / path), load_file(run_dir / path)), name


class _Killer:
    """An update that interrupts the program instead, once some have been done."""

    def __init__(self, after: int) -> None:
        self._left = after
        self._update = trainer_module.update

    def __call__(self, *arguments, **named):
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1
        return self._update(*arguments, **named)


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
            run(CONFIG, damaged, resumes=True)

        [record] = [r for r in caplog.records if "samples of earlier steps" in r.getMessage()]
        assert "\n" not in record.getMessage()
        assert "replay" in record.getMessage()
        third, fourth = metrics(damaged)[2:]
        assert "update/num_replayed" not in third
        assert fourth["update/num_replayed"] > 0
        assert load_replay(damaged / "checkpoints/4", SINGLE_PROCESS)

    def test_a_checkpoint_of_a_run_without_replay_lacks_nothing(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ):
        run(replace(WITHOUT, training=replace(CONFIG.training, num_train_steps=1)), tmp_path)

        with caplog.at_level(logging.WARNING):
            run(
                replace(WITHOUT, training=replace(CONFIG.training, num_train_steps=2)),
                tmp_path,
                resumes=True,
            )

        assert not [r for r in caplog.records if "earlier steps" in r.getMessage()]


def _train_on_a_rank(ranks: Ranks, run_dir: Path, num_steps: int) -> None:
    config = replace(CONFIG, training=replace(CONFIG.training, num_train_steps=num_steps))
    run(config, run_dir, resumes=(run_dir / "checkpoints").is_dir(), ranks=ranks)


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
        run(CONFIG, ranked, resumes=True)
    else:
        run_ranks(second, _train_on_a_rank, ranked, NUM_STEPS)

    path = "checkpoints/4/pretrained_model/model.safetensors"
    found, expected = (load_file(folder / path) for folder in (ranked, run_dir))
    assert max(float((found[n] - expected[n]).abs().max()) for n in expected) < 1e-5
    assert metrics(ranked)[3]["update/num_replayed"] == metrics(run_dir)[3]["update/num_replayed"]
