"""What the checkpoints of a run will take on the disk, known before anything is loaded."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers.initialization import no_init_weights

from pi0.checkpoint import BUILTIN, type_on_disk
from pi0.formats.folder import Contents
from pi0.model.architecture import dit_sizes
from pi0.model.lora import adapted_weights
from pi0.model.memory import ADAM_MOMENTS, FLOAT
from pi0.model.network import Pi0Network
from pi0.ript.config.schema import TrainConfig
from pi0.ript.diagnose.finding import Finding
from pi0.ript.diagnose.machine import LEAST_DISK, free_bytes
from pi0.ript.diagnose.memory_plan import num_remembered, replay_bytes
from pi0.ript.learner.critic import num_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointBytes:
    """Bytes of checkpoints, the texts of the policy (a few MB of tokenizer) left out.

    Attributes:
        first: Before any update.
        each: Between the first and the last.
        last: Of the last step.
    """

    first: int
    each: int
    last: int

    def needed(self, keep: int) -> int:
        """Return the most that a run has on the disk at once: those that are kept, and the one being written."""
        return self.last + keep * self.each


def predict_checkpoints(
    config: TrainConfig, contents: Contents, max_steps: int, *, keeps_weights: bool = False
) -> CheckpointBytes:
    """Return what the checkpoints of a run take.

    Args:
        config: Of the run.
        contents: Of its policy.
        max_steps: Control steps of the longest episodes, for what is replayed.
        keeps_weights: Whether trained weights lie beside the policy, which holds other ones (their running mean).
    """
    network, rank = _network(config, contents), config.policy.lora.rank
    changed = dict(_changed(network, config))
    sizes = [sum(each.shape) * rank if rank else each.numel() for each in changed.values()]
    trained = sum(sizes) * FLOAT
    is_builtin = config.policy_path == BUILTIN
    stored = {
        name: math.prod(contents.tensors[name].shape)
        * (
            torch.float32 if is_builtin else type_on_disk(weight, contents.tensors[name].dtype)
        ).itemsize
        for name, weight in network.core.named_parameters()
    }
    as_loaded = sum(stored.values())
    whole = sum(
        changed[name].numel() * FLOAT if name in changed else stored[name] for name in stored
    )
    is_whole = is_builtin or config.training.save_full_policy == "all"
    in_engine = trained if rank or keeps_weights else 0
    if config.algo.objective == "cfg":  # the unconditional branch
        in_engine += dit_sizes(contents.config).hidden_size * FLOAT
    num_earlier = num_remembered(config) + config.training.overlap
    beside = in_engine + (ADAM_MOMENTS + num_earlier) * trained
    beside += replay_bytes(config, contents.card, max_steps)
    has_critic = config.algo.critic == "value"
    head = num_weights(network.feature_width) * FLOAT if has_critic else 0
    beside += (1 + ADAM_MOMENTS) * head
    return CheckpointBytes(
        first=head + in_engine + (as_loaded if is_whole else 0),
        each=beside + (whole if is_whole else trained),
        last=beside + whole,
    )


def check_space(output_dir: Path, checkpoints: CheckpointBytes, keep: int) -> Finding:
    """Say whether the checkpoints of a run fit on its disk.

    Args:
        output_dir: Where the run directory is, or will be made.
        checkpoints: What they take.
        keep: How many are kept.
    """
    folder, free = free_bytes(output_dir)
    each, last = checkpoints.each, checkpoints.last
    text = (
        f"{free / 1e9:.2f} GB free in {folder}; a checkpoint takes {each / 1e9:.2f} GB, the last one "
        f"{last / 1e9:.2f} GB, and {keep} are kept"
    )
    if free >= max(LEAST_DISK, checkpoints.needed(keep)):
        return Finding(name="disk", status="ok", text=text)
    return Finding(
        name="disk",
        status="error" if free < max(each, last) else "warning",
        text=text,
        fix="free space there, choose another output_dir, or lower training.keep_checkpoints",
    )


def _network(config: TrainConfig, contents: Contents) -> Pi0Network:
    with torch.device("meta"), no_init_weights():
        network = Pi0Network(contents.config)
    dtype = getattr(torch, contents.card.dtype)
    network.cast_backbone(dtype, keeps_masters=config.policy.trains_everything)
    return network


def _changed(network: Pi0Network, config: TrainConfig) -> Iterator[tuple[str, Tensor]]:
    """Yield every weight that training changes, by name."""
    if config.policy.lora.rank:
        yield from adapted_weights(network.core, config.policy.lora.targets).items()
        return
    chosen = (
        network.expert_parameters()
        if config.policy.train_expert_only
        else network.all_trainable_parameters()
    )
    numbers = {id(parameter) for parameter in chosen}
    for name, parameter in network.core.named_parameters():
        if id(parameter) in numbers:
            yield name, parameter
