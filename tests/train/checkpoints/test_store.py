import logging
import multiprocessing
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pi0.checkpoint import load_policy
from pi0.policy import Pi0Policy
from pi0.ript.algo.objective import Objective
from pi0.ript.build_learner import build_engine, build_objective
from pi0.ript.config.schema import AlgoConfig, TrainConfig
from pi0.ript.config.sections import OptimizerConfig
from pi0.ript.engine.engine import EngineState
from pi0.ript.engine.single import SingleEngine
from pi0.ript.learner.update import update
from pi0.ript.train.checkpoints.folder import load_training_state
from pi0.ript.train.checkpoints.state import PolicySnapshot, TrainingState
from pi0.ript.train.checkpoints.store import find_last, save_checkpoint
from tests.learner.samples import SAMPLING, are_equal, draw_batch, weights_of
from tests.policy_parts import raises_one_line, small_policy

ALGO = AlgoConfig(num_epochs=1, num_minibatches=2, micro_batch_size=4, lr=1e-4, warmup_steps=3)


@pytest.fixture(scope="module")
def policy() -> Pi0Policy:
    return small_policy()


def training_state(step: int) -> TrainingState:
    moments = {"0.exp_avg": torch.full((3,), float(step)), "0.step": torch.tensor(float(step))}
    return TrainingState(
        step=step,
        engine=EngineState(tensors=moments, num_steps=2 * step),
        sampler_position=8 * step,
        counters={"num_episodes": 64 * step, "success": 0.1 + 0.2},
        config_hash="abc123",
    )


def save(run: Path, policy: Pi0Policy, *steps: int, keep: int = 3) -> Path:
    return [
        save_checkpoint(run, PolicySnapshot.of(policy), training_state(step), keep)
        for step in steps
    ][-1]


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def engine_of(policy: Pi0Policy) -> SingleEngine:
    parameters = policy.trainable_parameters(expert_only=True)
    return SingleEngine(parameters, OptimizerConfig(), ALGO.lr, ALGO.warmup_steps, 1.0)


@contextmanager
def no_file_larger_than(num_bytes: int) -> Iterator[None]:
    """Make the operating system refuse larger files, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestSaving:
    def test_what_is_read_back_is_what_was_saved(self, tmp_path: Path, policy: Pi0Policy):
        checkpoint = save(tmp_path, policy, 5)

        assert checkpoint == tmp_path / "checkpoints" / "5"
        loaded = load_training_state(checkpoint)
        expected = training_state(5)
        assert are_equal(dict(loaded.engine.tensors), dict(expected.engine.tensors))
        assert loaded.engine.num_steps == 10
        assert (loaded.step, loaded.sampler_position, loaded.config_hash) == (5, 40, "abc123")
        assert loaded.counters == expected.counters
        assert are_equal(
            weights_of(load_policy(checkpoint / "pretrained_model")), weights_of(policy)
        )

    def test_last_leads_to_the_newest(self, tmp_path: Path, policy: Pi0Policy):
        save(tmp_path, policy, 5, 10)

        last = tmp_path / "checkpoints" / "last"
        assert last.resolve() == (tmp_path / "checkpoints" / "10").resolve()
        assert load_policy(last / "pretrained_model").card == policy.card
        assert find_last(tmp_path).name == "10"

    def test_only_the_newest_are_kept(self, tmp_path: Path, policy: Pi0Policy):
        save(tmp_path, policy, 2, 4, 10, 12, keep=2)

        assert names(tmp_path) == ["10", "12", "last"]

    def test_a_step_done_again_replaces_its_checkpoint(self, tmp_path: Path, policy: Pi0Policy):
        checkpoint = save(tmp_path, policy, 5, 10)
        (checkpoint / "training_state" / "state.json").write_text("{")

        save(tmp_path, policy, 10)

        assert load_training_state(checkpoint).step == 10
        assert names(tmp_path) == ["10", "5", "last"]

    def test_a_run_resumed_before_a_damaged_checkpoint_keeps_what_it_writes(
        self, tmp_path: Path, policy: Pi0Policy
    ):
        damaged = save(tmp_path, policy, 5, 10, keep=1)
        (damaged / "training_state" / "state.json").unlink()

        save(tmp_path, policy, 7, keep=1)

        assert find_last(tmp_path).name == "7"


class TestFailureWhileSaving:
    def test_a_full_disk_is_one_line_and_harms_nothing(self, tmp_path: Path, policy: Pi0Policy):
        save(tmp_path, policy, 5)

        with no_file_larger_than(20_000), pytest.raises(OSError, match="checkpoint") as caught:
            save(tmp_path, policy, 10)

        assert raises_one_line(caught.value, "10", "ulimit -f")
        assert names(tmp_path) == ["5", "last"]
        assert load_training_state(find_last(tmp_path)).step == 5

    def test_an_unwritable_place_is_one_line(self, tmp_path: Path, policy: Pi0Policy):
        (tmp_path / "checkpoints").write_text("a file where a folder should be")

        with pytest.raises(OSError, match="cannot write checkpoint") as caught:
            save(tmp_path, policy, 1)

        assert raises_one_line(caught.value, str(tmp_path), "output_dir")

    def test_killed_at_any_moment_a_run_still_has_a_whole_checkpoint(
        self, tmp_path: Path, policy: Pi0Policy
    ):
        save(tmp_path, policy, 1)

        def save_for_ever(first: int) -> None:
            for step in range(first, first + 1000):
                save(tmp_path, policy, step, keep=2)

        fork = multiprocessing.get_context("fork")
        for delay_ms in (5, 20, 45, 70, 110, 150):
            step = load_training_state(find_last(tmp_path)).step
            saver = fork.Process(target=save_for_ever, args=(step + 1,))
            saver.start()
            time.sleep(delay_ms / 1000)
            saver.kill()
            saver.join()

            last = find_last(tmp_path)
            assert load_training_state(last).step >= step
            assert are_equal(weights_of(load_policy(last / "pretrained_model")), weights_of(policy))

    def test_leftovers_of_a_killed_save_are_cleared_by_the_next(
        self, tmp_path: Path, policy: Pi0Policy
    ):
        save(tmp_path, policy, 5)
        (tmp_path / "checkpoints" / ".writing-7" / "training_state").mkdir(parents=True)
        assert find_last(tmp_path).name == "5"

        save(tmp_path, policy, 10)

        assert names(tmp_path) == ["10", "5", "last"]


class TestFindingTheLast:
    @pytest.mark.parametrize(
        "name",
        [
            "pretrained_model/model.safetensors",
            "pretrained_model/norm_stats.json",
            "training_state/optimizer.safetensors",
            "training_state/state.json",
        ],
    )
    @pytest.mark.parametrize("damage", ["cut", "missing", "garbage", "one bit"])
    def test_a_damaged_one_is_passed_over_with_a_warning(
        self,
        name: str,
        damage: str,
        tmp_path: Path,
        policy: Pi0Policy,
        caplog: pytest.LogCaptureFixture,
    ):
        file = save(tmp_path, policy, 5, 10) / name
        content = file.read_bytes()
        if damage == "missing":
            file.unlink()
        elif damage == "one bit":
            middle = len(content) // 2
            flipped = bytes([content[middle] ^ 1])
            file.write_bytes(content[:middle] + flipped + content[middle + 1 :])
        else:
            file.write_bytes(content[:-7] if damage == "cut" else b"\xff" * len(content))

        with caplog.at_level(logging.WARNING):
            assert find_last(tmp_path).name == "5"

        [record] = caplog.records
        assert name in record.getMessage()
        with pytest.raises(ValueError, match="cannot be read"):
            load_training_state(tmp_path / "checkpoints" / "10")

    def test_it_does_not_depend_on_the_link(self, tmp_path: Path, policy: Pi0Policy):
        save(tmp_path, policy, 5, 10)
        (tmp_path / "checkpoints" / "last").unlink()

        assert find_last(tmp_path).name == "10"

    def test_steps_are_numbers_not_words(self, tmp_path: Path, policy: Pi0Policy):
        save(tmp_path, policy, 9, 10)
        (tmp_path / "checkpoints" / "last").unlink()

        assert find_last(tmp_path).name == "10"

    def test_no_run_and_no_usable_checkpoint_are_one_line(self, tmp_path: Path, policy: Pi0Policy):
        with pytest.raises(ValueError, match="nothing to resume") as no_run:
            find_last(tmp_path / "nowhere")
        only = save(tmp_path, policy, 5)
        (only / "training_state" / "state.json").write_text("[1, 2]")
        with pytest.raises(ValueError, match="no usable checkpoint") as no_checkpoint:
            find_last(tmp_path)

        assert raises_one_line(no_run.value, "nowhere")
        assert raises_one_line(no_checkpoint.value, str(tmp_path))


@pytest.mark.parametrize(
    "algo",
    [
        pytest.param(ALGO, id="flow_sde"),
        pytest.param(replace(ALGO, reference_weight=0.1), id="reference"),
        pytest.param(replace(ALGO, objective="nft"), id="nft"),
        pytest.param(replace(ALGO, objective="cfg"), id="cfg"),
        pytest.param(replace(ALGO, objective="bc"), id="bc"),
    ],
)
def test_a_resumed_run_continues_bit_for_bit(tmp_path: Path, algo: AlgoConfig):
    config = TrainConfig(algo=algo)

    def begin(policy: Pi0Policy) -> tuple[SingleEngine, Objective]:
        return build_engine(config, policy), build_objective(algo)

    def practise(
        policy: Pi0Policy, engine: SingleEngine, objective: Objective, *steps: int
    ) -> None:
        for step in steps:
            batch = draw_batch(policy, 5, seed=step)
            update(policy, engine, batch, objective, algo, SAMPLING, step, has_frozen_prefix=True)

    straight = small_policy()
    practise(straight, *begin(straight), 1, 2, 3, 4)

    first = small_policy()
    engine, objective = begin(first)
    practise(first, engine, objective, 1, 2)
    state = TrainingState(
        step=2,
        engine=engine.state(),
        sampler_position=0,
        counters={},
        config_hash="",
        objective=objective.state(),
    )
    checkpoint = save_checkpoint(tmp_path, PolicySnapshot.of(first), state, keep=1)

    second = load_policy(checkpoint / "pretrained_model")
    resumed, remembered = begin(second)
    stored = load_training_state(checkpoint)
    resumed.load_state(stored.engine)
    remembered.load_state(dict(stored.objective))
    practise(second, resumed, remembered, 3, 4)

    assert are_equal(weights_of(straight), weights_of(second))
