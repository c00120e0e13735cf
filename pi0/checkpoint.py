"""Policies on disk: a folder of plain files, read and written with strict accounting.

config.json        sizes of the network (transformers' PI0Config)
policy.json        how the policy sees LIBERO (PolicyCard)
model.safetensors  weights under transformers' state-dict names, without the dead ones
norm_stats.json    normalisation statistics, openpi's layout
tokenizer.json     tokenizer of the instructions
"""

import importlib.resources
import math
import os
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PI0Config
from transformers.initialization import no_init_weights

from pi0.config import PolicyCard, read_json, read_policy_card
from pi0.network import Pi0Network, dead_tensor_names, vlm_sizes
from pi0.norm_stats import NormStats, read_norm_stats
from pi0.policy import Pi0Policy
from pi0.tokenizer import read_tokenizer

BUILTIN = "builtin"
WEIGHTS = "model.safetensors"


def load_policy(
    path: str | Path,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 4,
    norm_stats_path: str | Path | None = None,
) -> Pi0Policy:
    """Load a policy from a checkpoint folder.

    Args:
        path: A folder, or ``builtin`` for the embedded tiny policy.
        device: Where the network runs.
        batch_size: Rows of every network call of ``act``.
        norm_stats_path: Replaces the folder's ``norm_stats.json``.

    Returns:
        The policy, in eval mode.
    """
    folder = _find_folder(path)
    card = read_policy_card(folder / "policy.json")
    config = _read_network_config(folder / "config.json", card)
    stats = read_norm_stats(Path(norm_stats_path or folder / "norm_stats.json"), card)
    tokenizer = read_tokenizer(folder / "tokenizer.json")
    _check_vocabulary(tokenizer, config, folder)
    with no_init_weights():
        network = Pi0Network(config)
    load_weights(network, folder / WEIGHTS)
    network.cast_backbone(getattr(torch, card.dtype))
    return Pi0Policy(
        network=network,
        card=card,
        stats=stats,
        tokenizer=tokenizer,
        device=device,
        batch_size=batch_size,
    )


def save_policy(
    policy: Pi0Policy, folder: str | Path, *, dtype: torch.dtype = torch.float32
) -> None:
    """Write a policy as a folder that ``load_policy`` reads; each file appears whole or not at all.

    Args:
        policy: What is saved.
        folder: Created if missing; files of the same names are replaced.
        dtype: Of the weights on disk; anything but float32 loses training precision.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "config.json": policy.network.config.to_json_string(use_diff=False),
        "policy.json": policy.card.to_json(),
        "norm_stats.json": policy.codec.stats.to_json(),
        "tokenizer.json": policy.tokenizer.to_str(pretty=True),
    }
    for name, text in texts.items():
        write_atomically(folder / name, lambda file, text=text: file.write_text(text, "utf-8"))
    save_weights(policy.network, folder / WEIGHTS, dtype=dtype)


def new_policy(
    *,
    config: PI0Config,
    card: PolicyCard,
    stats: NormStats,
    tokenizer: Tokenizer,
    seed: int,
    device: torch.device | str = "cpu",
    batch_size: int = 4,
) -> Pi0Policy:
    """Return an untrained policy whose weights are a function of the seed."""
    # transformers draws from torch's global generator, which is put back afterwards
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Pi0Network(config)
        _initialise(network)
    return Pi0Policy(
        network=network,
        card=card,
        stats=stats,
        tokenizer=tokenizer,
        device=device,
        batch_size=batch_size,
    )


def save_weights(network: Pi0Network, path: Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Write the weights under transformers' names."""
    tensors = {
        name: tensor.detach().to("cpu", dtype).contiguous()
        for name, tensor in network.core.state_dict().items()
    }
    write_atomically(path, lambda file: save_file(tensors, file, metadata={"format": "pt"}))


def load_weights(network: Pi0Network, path: Path) -> None:
    """Fill the network from a file; every tensor must be used exactly once and fit."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; the checkpoint folder is incomplete")
    wanted = network.core.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            _check_tensors(path, wanted, shapes, dead_tensor_names(network.config))
            with torch.no_grad():
                for name, tensor in wanted.items():
                    tensor.copy_(file.get_tensor(name))
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not safetensors ({error}); copy it again") from None
    for name, tensor in wanted.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: tensor {name} holds NaN or infinity; use another checkpoint")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file, then put it in place in one move."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _find_folder(path: str | Path) -> Path:
    if str(path) == BUILTIN:
        return Path(str(importlib.resources.files("pi0") / BUILTIN))
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"policy_path {str(path)!r} is not a folder; use {BUILTIN!r} or a checkpoint folder"
        )
    return folder


def _read_network_config(path: Path, card: PolicyCard) -> PI0Config:
    raw = read_json(path)
    if raw.get("model_type") != "pi0":
        raise ValueError(f"{path}: model_type must be 'pi0', got {raw.get('model_type')!r}")
    config = PI0Config.from_dict(raw)
    agreements = {
        "horizon": ("chunk_size", config.chunk_size),
        "action_dim": ("max_action_dim", config.max_action_dim),
        "state_dim": ("max_state_dim", config.max_state_dim),
        "image_size": ("vision_config.image_size", vlm_sizes(config).vision_config.image_size),
    }
    for key, (name, value) in agreements.items():
        if getattr(card, key) != value:
            raise ValueError(
                f"{path}: {name} is {value} but policy.json says {key} {getattr(card, key)}; "
                "they must agree"
            )
    return config


def _check_vocabulary(tokenizer: Tokenizer, config: PI0Config, folder: Path) -> None:
    allowed = vlm_sizes(config).text_config.vocab_size
    used = tokenizer.get_vocab_size(with_added_tokens=False)
    if used > allowed:
        raise ValueError(
            f"{folder / 'tokenizer.json'} has {used} tokens but config.json allows {allowed}; "
            "bring the tokenizer the weights were trained with"
        )


def _check_tensors(
    path: Path, wanted: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], dead: frozenset[str]
) -> None:
    missing = sorted(wanted.keys() - shapes.keys())
    if missing:
        raise ValueError(
            f"{path}: {len(missing)} of {len(wanted)} tensors are missing, first {missing[0]}; "
            "is it a checkpoint of another layout or cut off?"
        )
    unknown = sorted(shapes.keys() - wanted.keys() - dead)
    if unknown:
        raise ValueError(
            f"{path}: {len(unknown)} tensors are unknown, first {unknown[0]}; "
            "does config.json belong to these weights?"
        )
    for name, tensor in wanted.items():
        if shapes[name] != tuple(tensor.shape):
            raise ValueError(
                f"{path}: tensor {name} has shape {shapes[name]}, config.json asks for "
                f"{tuple(tensor.shape)}; does config.json belong to these weights?"
            )


def _initialise(network: Pi0Network) -> None:
    """Scale weights by fan-in as openpi does; transformers' 0.02 suits only wide networks."""
    vlm = network.core.model.vlm
    parts = [network.core.model.dit, vlm.language_model, vlm.multi_modal_projector]
    parts += [network.core.embed_action_time, network.core.action_out_proj]
    for module in (module for part in parts for module in part.modules()):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=1.0 / math.sqrt(module.in_features))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    words = vlm.language_model.embed_tokens
    # Gemma multiplies embeddings by sqrt(width): tokens start with unit variance
    nn.init.normal_(words.weight, std=1.0 / math.sqrt(words.embedding_dim))
