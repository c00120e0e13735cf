"""TrainConfig -> what changes a policy: the engine with its optimizer, the objective, the critic."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from pi0.policy import Pi0Policy
from pi0.ript.algo.bc import Cloning
from pi0.ript.algo.cfg import GuidedCloning
from pi0.ript.algo.flow_sde import FlowSde
from pi0.ript.algo.nft import Nft
from pi0.ript.algo.objective import Objective
from pi0.ript.config.schema import AlgoConfig, TrainConfig
from pi0.ript.engine.ddp import DdpEngine
from pi0.ript.engine.engine import Engine
from pi0.ript.engine.fsdp import FsdpEngine, shard
from pi0.ript.engine.process_group import ProcessGroup
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.engine.sharded_tensors import require_sharding_torch
from pi0.ript.engine.single import SingleEngine
from pi0.ript.interfaces import Ranks
from pi0.ript.learner.critic import Critic
from pi0.ript.seeding import derive_seed

# A gradient and two moments beside every trained number, all float32.
BYTES_PER_TRAINED = 12
MEMORY_SHARE = 0.6  # the rest is for activations, prefixes and messages


def build_engine(
    config: TrainConfig,
    policy: Pi0Policy,
    ranks: Ranks = SINGLE_PROCESS,
    *,
    keeps_weights: bool = False,
) -> Engine:
    """Return the optimizer around the parameters that training may change.

    Args:
        config: Of the training.
        policy: What is trained.
        ranks: The processes that learn together.
        keeps_weights: Whether the state of the engine holds the weights, because saved policies hold other ones.
    """
    algo, lora = config.algo, config.policy.lora
    if lora.rank:
        seed = derive_seed(config.training.seed, "lora")
        parameters = policy.add_adapters(rank=lora.rank, targets=lora.targets, seed=seed)
    else:
        parameters = policy.trainable_parameters(expert_only=config.policy.train_expert_only)
    # the saved policy does not hold adapters, nor the unconditional branch
    num_saved = 0 if lora.rank or keeps_weights else len(parameters)
    if algo.objective == "cfg":
        parameters = [*parameters, policy.network.add_unconditional()]
    process_group = ranks if isinstance(ranks, ProcessGroup) else None
    is_sharded = process_group is not None and choose_strategy(config, parameters) == "fsdp"
    if process_group is not None and is_sharded:
        require_shardable(config)
        parameters = shard(policy.network, parameters, process_group)
    engine = SingleEngine(
        parameters,
        config.training.optimizer,
        algo.lr,
        algo.warmup_steps,
        algo.grad_norm_clip,
        kept_weights=range(num_saved, len(parameters)),
    )
    if process_group is None:
        return engine
    if is_sharded:
        return FsdpEngine(engine, policy.network, process_group)
    return DdpEngine(engine, process_group)


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


def build_objective(algo: AlgoConfig) -> Objective:
    """Return the learning rule that ``algo.objective`` names."""
    match algo.objective:
        case "flow_sde":
            return FlowSde(algo)
        case "nft":
            return Nft(algo)
        case "cfg":
            return GuidedCloning(algo)
        case "bc":
            return Cloning(algo)


def build_critic(config: TrainConfig, policy: Pi0Policy) -> Critic | None:
    """Return what ``algo.critic`` names."""
    if config.algo.critic == "none":
        return None
    seed = derive_seed(config.training.seed, "critic")
    width = policy.network.feature_width
    return Critic(config.algo.value, width, config.training.optimizer, seed)
