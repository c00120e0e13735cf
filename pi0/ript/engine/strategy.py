"""Whether every rank keeps the whole optimizer or a shard of it."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from pi0.ript.config.schema import TrainConfig
from pi0.ript.engine.sharded_tensors import require_sharding_torch

# A gradient and two moments beside every trained number, all float32.
BYTES_PER_TRAINED = 12
MEMORY_SHARE = 0.6  # the rest is for activations, prefixes and messages


def choose_strategy(
    config: TrainConfig, parameters: Sequence[nn.Parameter]
) -> Literal["ddp", "fsdp"]:
    """Return ``distributed.strategy``; ``auto`` shards what does not fit beside the weights on a GPU.

    Args:
        config: Of the run.
        parameters: What is trained, on the device it will be trained on.
    """
    if config.distributed.strategy != "auto":
        return config.distributed.strategy
    device = parameters[0].device
    if device.type != "cuda":
        return "ddp"
    total = torch.cuda.get_device_properties(device).total_memory
    free = MEMORY_SHARE * total - torch.cuda.memory_allocated(device)
    needed = BYTES_PER_TRAINED * sum(parameter.numel() for parameter in parameters)
    return "ddp" if needed <= free else "fsdp"


def require_shardable(config: TrainConfig) -> None:
    """Refuse what needs every trained weight on every rank at any time, and a torch that is too old.

    Raises:
        ValueError: Names the setting or the needed torch.
    """
    require_sharding_torch()
    settings = {
        "training.overlap": config.training.overlap,
        "training.regression_guard.action roll_back": (
            config.training.regression_guard.drop is not None
            and config.training.regression_guard.action == "roll_back"
        ),
        "policy.compile": config.policy.compile,
        "policy.cuda_graphs": config.policy.cuda_graphs,
        "policy.lora": config.policy.lora.rank > 0,  # adapters are small enough for every rank
    }
    for name, is_set in settings.items():
        if is_set:
            raise ValueError(
                f"{name} does not work with distributed.strategy fsdp; switch it off or use ddp"
            )
