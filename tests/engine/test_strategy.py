"""What cannot be sharded over ranks is refused with the setting's name."""

import pytest

from pi0.ript.config.policy import LoraConfig
from pi0.ript.config.schema import PolicyConfig, TrainConfig
from pi0.ript.engine.strategy import require_shardable


def test_what_trains_without_adapters_may_be_sharded():
    require_shardable(TrainConfig())


def test_adapters_are_refused_by_name():
    config = TrainConfig(policy=PolicyConfig(lora=LoraConfig(rank=2)))

    with pytest.raises(ValueError, match=r"policy\.lora does not work with .* fsdp; .* use ddp"):
        require_shardable(config)
