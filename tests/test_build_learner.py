"""What cannot be sharded over ranks is refused with the setting's name."""

import pytest
import torch

from pi0.ript.build_learner import require_shardable
from pi0.ript.config.policy import LoraConfig
from pi0.ript.config.schema import PolicyConfig, TrainConfig


def test_what_trains_without_adapters_may_be_sharded():
    require_shardable(TrainConfig())


def test_adapters_are_refused_by_name():
    config = TrainConfig(policy=PolicyConfig(lora=LoraConfig(rank=2)))

    with pytest.raises(ValueError, match=r"policy\.lora does not work with .* fsdp; .* use ddp"):
        require_shardable(config)


def test_a_torch_that_cannot_shard_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "__version__", "2.8.0+cpu")

    with pytest.raises(ValueError, match=r"fsdp .* torch 2\.9 or newer, not 2\.8\.0\+cpu; pip"):
        require_shardable(TrainConfig())
