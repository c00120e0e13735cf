"""TrainConfig -> the policy, on its device, and the policy that a run began with."""

import logging
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from pi0.background import in_background
from pi0.checkpoint import BUILTIN, find_folder, load_policy
from pi0.description import describe_policy, description_text
from pi0.formats.base import Base, read_base
from pi0.formats.folder import read_folder
from pi0.formats.weight_files import StoredTensor
from pi0.policy import Pi0Policy
from pi0.ript.config.schema import TrainConfig
from pi0.ript.diagnose.checkpoint import choices_of
from pi0.ript.engine.torch_settings import leave_cores_to_simulators, repeat_exactly
from pi0.ript.train.checkpoints.folder import POLICY_FOLDER

logger = logging.getLogger(__name__)


def choose_device(requested: str) -> torch.device:
    """Return the device; ``auto`` takes a GPU if there is one, and the choice is announced."""
    has_gpu = torch.cuda.is_available()
    if requested == "cuda" and not has_gpu:
        raise ValueError("policy.device is cuda, but torch sees no GPU; use cpu or auto")
    uses_gpu = has_gpu and requested != "cpu"
    device = torch.device("cuda", torch.cuda.current_device()) if uses_gpu else torch.device("cpu")
    logger.info("device: %s (policy.device: %s)", device, requested)
    return device


def build_policy(config: TrainConfig, path: str | Path | None = None) -> Pi0Policy:
    """Load the policy once and show its card.

    ``path`` replaces ``policy_path`` when a run is resumed: its checkpoint holds all that was chosen.
    With adapters a resumed run starts from the weights under them again, because a policy is loaded with
    the two merged; the adapters come back with the state of the engine.
    """
    leave_cores_to_simulators()
    if config.policy.lora.rank:
        path = None
    device = choose_device(config.policy.device)
    if config.policy.cuda_graphs and device.type != "cuda":
        raise ValueError(
            f"policy.cuda_graphs is true, but the policy is on {device}; set it to false, or policy.device to cuda"
        )
    if config.training.deterministic:
        repeat_exactly(device)
    policy = load_policy(
        path or config.policy_path,
        device=device,
        batch_size=config.policy.batch_size,
        norm_stats_path=None if path else config.norm_stats_path,
        tokenizer_path=None if path else config.policy.tokenizer_path,
        protocol=None if path else config.policy.protocol,
        overrides={} if path else config.policy.overrides.chosen(),
        keeps_masters=config.policy.trains_everything,
    )
    policy.network.checkpoints_layers = config.policy.gradient_checkpointing
    policy.network.set_denoising(config.policy.denoising)
    text = description_text(describe_policy(policy))
    logger.info("policy: %s\n%s", path or config.policy_path, text.rstrip())
    return policy


def find_base(config: TrainConfig, checkpoint: Path | None) -> "Future[Base] | None":
    """Return the policy that a run trains, which its checkpoints name; every byte of its weights is read meanwhile.

    None for the embedded policy, and for a run whose checkpoint names none: its checkpoints are whole policies.
    Where a resumed run began with another policy than is there now, the result is that error.

    Raises:
        FileNotFoundError: The policy that a resumed run began with is gone.
        ValueError: ``policy_path`` means another one here.
    """
    stored = None if checkpoint is None else read_base(checkpoint / POLICY_FOLDER)
    if config.policy_path == BUILTIN or (checkpoint is not None and stored is None):
        return None
    if stored is not None:
        stored.check_sizes()
    folder = find_folder(config.policy_path if stored is None else stored.path)
    # adapters go on top of policy_path again, which a relative path may find elsewhere
    if config.policy.lora.rank and not folder.samefile(find_folder(config.policy_path)):
        raise ValueError(
            f"{checkpoint} was trained from {folder}, but policy_path {config.policy_path!r} is "
            f"{Path(config.policy_path).resolve()} here; resume where the run began: cd there first"
        )
    tensors = read_folder(folder, choices_of(config)).tensors
    return in_background(partial(_read_base, stored, folder, tensors))


def _read_base(stored: Base | None, folder: Path, tensors: Mapping[str, StoredTensor]) -> Base:
    if stored is not None:
        stored.verify()
    return Base.of(folder, tensors)


def adopt_denoise_steps(policy: Pi0Policy, num_steps: int) -> None:
    """Let the card say the denoise steps that a run trains with: whatever loads its checkpoints follows the card.

    One warning names both numbers where the policy was meant for another one.
    """
    if policy.card.denoise_steps == num_steps:
        return
    logger.warning(
        "policy.denoise_steps is %d and the policy's card says %d: this run acts, learns and evaluates with %d, "
        "and the cards of its checkpoints will say so; --policy.denoise_steps %d follows the card",
        *(num_steps, policy.card.denoise_steps, num_steps, policy.card.denoise_steps),
    )
    policy.card = replace(policy.card, denoise_steps=num_steps)
