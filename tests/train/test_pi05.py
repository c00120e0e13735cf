"""A pi0.5 in the loop: practice ahead of the updates, and resumed it goes on with the numbers it had."""

from pathlib import Path

import pytest
import torch

from pi0.ript.config.schema import TrainConfig
from tests.policy_parts import small_policy
from tests.train.test_async_collector import CONFIG, changed, metrics, weights
from tests.train.toy_world import toy_trainer


def run(config: TrainConfig, run_dir: Path, *, resumes: bool = False) -> None:
    policy = small_policy(is_pi05=True)
    with toy_trainer(config, policy, run_dir, resumes=resumes) as (trainer, _):
        if not resumes:
            trainer.checkpoints.save_beginning()
        trainer.train()


@pytest.mark.parametrize("overlap", [False, True])
def test_it_learns_and_a_resumed_run_goes_on_with_the_same_bits(tmp_path: Path, overlap: bool):
    config = changed(CONFIG, overlap=overlap)
    run(changed(config, num_train_steps=2), tmp_path / "whole")
    run(changed(config, num_train_steps=1), tmp_path / "parts")
    run(changed(config, num_train_steps=2), tmp_path / "parts", resumes=True)

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert metrics(parts) == metrics(whole)
    if overlap:
        assert [line["rollout/staleness_updates"] for line in metrics(whole)] == [0, 1]
    first, last, resumed = weights(whole, 0), weights(whole, 2), weights(parts, 2)
    assert all(torch.equal(last[name], resumed[name]) for name in last)
    assert any(not torch.equal(first[name], last[name]) for name in last if "dense" in name)
