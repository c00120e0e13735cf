"""A policy is practiced, evaluated and rolled out at one limit of control steps, or evaluated at one of its own."""

from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from pi0.ript.build import build_trainer
from pi0.ript.config.schema import AlgoConfig, EvaluationConfig, TaskConfig, TrainConfig
from pi0.ript.evaluation.episodes import protocol_text, requests_of_run
from pi0.ript.types import Episode
from tests.policy_parts import small_policy
from tests.train.toy_run import ToyRunner


class NotingRunner(ToyRunner):
    """Notes what is asked for; every episode fails at once."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.asked = []

    def run(self, source, sampling, pool=None, policy=None, spare=None):
        for request in iter(source, None):
            self.asked.append(request)
            yield Episode(request=request, task="", policy_steps=(), outcome="failure", num_steps=1)

    def limits(self):
        """The limits asked for since the last call."""
        asked, self.asked = self.asked, []
        return {request.max_steps for request in asked}


# openpi allows 220 control steps on libero_spatial, LeRobot 280.
@pytest.mark.parametrize(
    ("protocol", "chosen", "expected"),
    [("openpi", None, 220), ("lerobot", None, 280), ("lerobot", 12, 12)],
)
def test_practice_evaluation_and_the_runner_itself_have_the_limit_of_the_protocol(
    tmp_path: Path, protocol: str, chosen: int | None, expected: int
):
    config = TrainConfig(
        task=TaskConfig(benchmark_name="libero_spatial", task_name=0, max_episode_length=chosen),
        algo=AlgoConfig(rloo_batch_size=2, demo_batch_size=1, max_sampling_attempts=1),
        evaluation=EvaluationConfig(rollouts_per_task=2, save_videos=0),
    )
    policy = small_policy(protocol=protocol)
    with NotingRunner(policy, config=config, rollouts_per_env=2) as runner:
        console = Console(quiet=True)
        trainer = build_trainer(config, policy, runner, tmp_path, None, console)
        with closing(trainer):
            trainer.parts.collector.collect(1)
            assert runner.limits() == {expected}
            trainer.parts.evaluator.run(0)
            assert runner.limits() == {expected}
        list(runner.run_policy_in_env(0))
        assert runner.limits() == {expected}


@pytest.mark.parametrize(("chosen", "expected"), [(None, 12), (30, 30), ("suite", 300)])
def test_held_out_episodes_may_have_a_limit_of_their_own(chosen, expected: int):
    config = TrainConfig(
        task=TaskConfig(task_name=7, max_episode_length=12),
        evaluation=EvaluationConfig(rollouts_per_task=2, max_episode_length=chosen),
    )

    requests = requests_of_run(config, [("libero_goal", 7)], "openpi")

    assert {request.max_steps for request in requests} == {expected}
    assert protocol_text(config, requests) == (
        f"20 held-out states per task, fixtures drawn per episode, at most {expected} control steps"
    )
