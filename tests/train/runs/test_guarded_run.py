"""Whole toy runs whose success falls after the first step, and what the guard does about it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pi0.ript.config.load import save_config
from pi0.ript.config.schema import (
    AlgoConfig,
    EvaluationConfig,
    LoggingConfig,
    TaskConfig,
    TrainConfig,
    TrainingConfig,
)
from pi0.ript.config.sections import RegressionGuardConfig
from pi0.ript.evaluation.episodes import evaluation_path, read_evaluation, write_evaluation
from pi0.ript.report.jsonl import read_metrics
from pi0.ript.run_folder import RUN_CONFIG_NAME
from pi0.ript.scripts.exits import is_user_error
from pi0.ript.train import trainer as trainer_module
from pi0.ript.train.checkpoints.store import find_last
from pi0.ript.train.regression_guard import RegressionError
from pi0.ript.train.run import train_run
from tests.evaluation.records import make_record
from tests.learner.samples import are_equal, weights_of
from tests.policy_parts import raises_one_line, small_policy
from tests.train.toy_world import toy_trainer

GUARD = RegressionGuardConfig(drop=0.25, patience=1)
CONFIG = TrainConfig(
    task=TaskConfig(task_name="turn_on_the_stove", max_episode_length=12),
    algo=AlgoConfig(
        rloo_batch_size=4, demo_batch_size=1, num_epochs=1, num_minibatches=1, lr=1e-3,
        warmup_steps=0,
    ),
    training=TrainingConfig(num_train_steps=2, save_freq=1, regression_guard=GUARD),
    evaluation=EvaluationConfig(rollouts_per_task=4, every=1, save_videos=0),
    logging=LoggingConfig(tensorboard=False),
)  # fmt: skip


def weights_in(run_dir: Path, step: int):
    return load_file(run_dir / f"checkpoints/{step}/pretrained_model/model.safetensors")


def run_that_gets_worse(run_dir: Path, guard: RegressionGuardConfig):
    """Let two slots of four succeed until the first step is done, and none from then on."""
    training = replace(CONFIG.training, regression_guard=guard)
    config = replace(CONFIG, training=training)
    save_config(config, run_dir / RUN_CONFIG_NAME)
    policy = small_policy()
    with toy_trainer(config, policy, run_dir) as (trainer, pool):
        pool.succeeds = lambda slot: slot % 2 == 0 and not read_metrics(run_dir / "metrics.jsonl")
        train_run(trainer, run_dir)
    return policy


def test_it_stops_the_run_with_the_figures_and_keeps_the_best_checkpoint(tmp_path: Path):
    with pytest.raises(RegressionError) as caught:
        run_that_gets_worse(tmp_path, GUARD)

    assert raises_one_line(
        caught.value, "held_out success fell from 50.0% after step 0 to 0.0% after step 1"
    )
    assert is_user_error(caught.value)
    assert find_last(tmp_path).name == "1"
    assert not are_equal(weights_in(tmp_path, 0), weights_in(tmp_path, 1))


def test_it_goes_on_with_the_weights_of_the_best_checkpoint(tmp_path: Path):
    best = weights_of(small_policy())

    policy = run_that_gets_worse(tmp_path, replace(GUARD, action="roll_back"))

    first, second = read_metrics(tmp_path / "metrics.jsonl")
    assert first["update/num_optimizer_steps"] == 1, "the weights had moved before they went back"
    assert second["update/num_optimizer_steps"] == 0, "nothing succeeded, so nothing was learned"
    assert are_equal(weights_of(policy), best)
    assert are_equal(weights_in(tmp_path, 0), weights_in(tmp_path, 1))
    assert find_last(tmp_path).name == "2"


def test_an_evaluation_whose_episodes_all_crashed_says_nothing_of_the_policy(tmp_path: Path):
    write_evaluation(evaluation_path(tmp_path, 1), {}, [make_record(outcome="crashed")])
    save_config(CONFIG, tmp_path / RUN_CONFIG_NAME)
    with toy_trainer(CONFIG, small_policy(), tmp_path) as (trainer, pool):
        pool.succeeds = lambda slot: slot % 2 == 0
        train_run(trainer, tmp_path)

    assert (tmp_path / "summary.txt").is_file()


ONE_STEP = replace(CONFIG, training=replace(CONFIG.training, num_train_steps=1))
GOES_BACK = replace(GUARD, action="roll_back")


def guarded(config: TrainConfig, guard: RegressionGuardConfig) -> TrainConfig:
    return replace(config, training=replace(config.training, regression_guard=guard))


def run_that_only_its_first_weights_master(
    config: TrainConfig, run_dir: Path, *, resumes: bool = False
):
    """Let two slots of four succeed with the weights of the beginning, and none with any other."""
    first = weights_of(small_policy())
    save_config(config, run_dir / RUN_CONFIG_NAME)
    with toy_trainer(config, small_policy(), run_dir, resumes=resumes) as (trainer, pool):
        policy = trainer.parts.policy
        pool.succeeds = lambda slot: slot % 2 == 0 and are_equal(weights_of(policy), first)
        train_run(trainer, run_dir)
    return policy


def num_successes(run_dir: Path, name: str) -> int:
    return sum(r.is_success for r in read_evaluation(run_dir / f"evaluations/{name}.json"))


def trained_successes(run_dir: Path) -> list[int]:
    tasks = json.loads((run_dir / "summary.json").read_text())["tasks"]
    return [task["trained"]["num_successes"] for task in tasks.values()]


class TestLastStep:
    # with 2 the evaluation at the end is none of those that are due between steps
    @pytest.mark.parametrize("every", [1, 2])
    def test_it_stops_the_run_after_the_evaluation_at_the_end(self, tmp_path: Path, every: int):
        config = replace(ONE_STEP, evaluation=replace(CONFIG.evaluation, every=every))
        with pytest.raises(RegressionError, match=r"to 0\.0% after step 1"):
            run_that_only_its_first_weights_master(config, tmp_path)

        assert num_successes(tmp_path, "step_1") == 0
        assert not (tmp_path / "summary.txt").exists(), "nothing is reported as trained"

    def test_it_stops_a_resumed_run_again(self, tmp_path: Path):
        for resumes in (False, True):
            with pytest.raises(RegressionError):
                run_that_only_its_first_weights_master(ONE_STEP, tmp_path, resumes=resumes)

    def test_practice_is_judged_before_the_evaluation_at_the_end(self, tmp_path: Path):
        config = guarded(CONFIG, replace(GUARD, measure="practice"))
        with pytest.raises(RegressionError, match=r"practice success fell .* 0\.0% after step 2"):
            run_that_only_its_first_weights_master(config, tmp_path)

        assert not (tmp_path / "evaluations/step_2.json").exists()

    def test_it_ends_with_the_best_policy_and_reports_that_one(self, tmp_path: Path):
        policy = run_that_only_its_first_weights_master(guarded(ONE_STEP, GOES_BACK), tmp_path)

        assert are_equal(weights_of(policy), weights_of(small_policy()))
        assert find_last(tmp_path).name == "1"
        assert are_equal(weights_in(tmp_path, 0), weights_in(tmp_path, 1))
        assert num_successes(tmp_path, "step_0") == num_successes(tmp_path, "step_1") == 2
        assert num_successes(tmp_path, "regressed_step_1") == 0
        assert trained_successes(tmp_path) == [2]

    @pytest.mark.parametrize("where", ["before it goes back", "before it evaluates again"])
    def test_killed_while_it_goes_back_and_resumed_it_ends_the_same(
        self, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
    ):
        config = guarded(ONE_STEP, GOES_BACK)
        with monkeypatch.context() as patch:
            if where == "before it goes back":
                patch.setattr(trainer_module, "roll_back", killed)
            else:
                patch.setattr(trainer_module.Trainer, "evaluate", killed_after_evaluations(2))
            with pytest.raises(KeyboardInterrupt):
                run_that_only_its_first_weights_master(config, tmp_path)
        assert not (tmp_path / "evaluations/step_1.json").exists()

        run_that_only_its_first_weights_master(config, tmp_path, resumes=True)

        assert are_equal(weights_in(tmp_path, 0), weights_in(tmp_path, 1))
        assert trained_successes(tmp_path) == [2]


def killed(*_):
    """End the program."""
    raise KeyboardInterrupt


def killed_after_evaluations(count: int):
    """Return ``Trainer.evaluate`` of a program that is killed when it is called once more."""
    real, left = trainer_module.Trainer.evaluate, iter(range(count))

    def evaluate(trainer: trainer_module.Trainer, step: int):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return real(trainer, step)

    return evaluate
