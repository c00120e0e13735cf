"""A pi0.5 in the loop: practice ahead of the updates, and resumed it goes on with the numbers it had."""

from pathlib import Path

import pytest
import torch

from tests.policy_parts import small_policy
from tests.train.toy_training import CONFIG, changed, repeatable_metrics, train, weights


@pytest.mark.parametrize("overlap", [False, True])
def test_it_learns_and_a_resumed_run_goes_on_with_the_same_bits(tmp_path: Path, overlap: bool):
    config = changed(CONFIG, overlap=overlap)
    train(changed(config, num_train_steps=2), tmp_path / "whole", policy=small_policy(is_pi05=True))
    train(changed(config, num_train_steps=1), tmp_path / "parts", policy=small_policy(is_pi05=True))
    train(changed(config, num_train_steps=2), tmp_path / "parts", policy=small_policy(is_pi05=True))

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert repeatable_metrics(parts) == repeatable_metrics(whole)
    if overlap:
        assert [line["rollout/staleness_updates"] for line in repeatable_metrics(whole)] == [0, 1]
    first, last, resumed = weights(whole, 0), weights(whole, 2), weights(parts, 2)
    assert all(torch.equal(last[name], resumed[name]) for name in last)
    assert any(not torch.equal(first[name], last[name]) for name in last if "dense" in name)
