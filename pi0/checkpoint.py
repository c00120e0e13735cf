"""Policies on disk: folders of any layout are read, the project's own layout is written.

The own layout, of plain files:

config.json        sizes of the network (transformers' PI0Config)
policy.json        what the policy is given of LIBERO (PolicyCard)
model.safetensors  weights under transformers' state-dict names, without the unused ones
norm_stats.json    normalization statistics, openpi's layout
tokenizer.json     tokenizer of the instructions
base.json          what it was trained from; that has the weights which model.safetensors does not have (Base)
"""

import importlib.resources
import math
import stat
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PI0Config
from transformers.initialization import no_init_weights

from pi0.card import PolicyCard, Protocol
from pi0.files import fill_atomically, write_atomically
from pi0.formats.base import BASE, Base, verified
from pi0.formats.folder import Choices, read_folder
from pi0.formats.weight_files import WEIGHTS, StoredTensor, TensorSource, write_safetensors
from pi0.model.gemma import AdaptiveNorm
from pi0.model.lora import DOWN, UP, plain_tensors, trained_tensors, with_adapter
from pi0.model.network import Pi0Network
from pi0.norm_stats import NormStats
from pi0.policy import Pi0Policy
from pi0.precision import card_on, is_precision_given
from pi0.records import AutoSize, choose_batch_size

BUILTIN = "builtin"


def load_policy(
    path: str | Path,
    *,
    device: torch.device | str = "cpu",
    batch_size: int | AutoSize = "auto",
    norm_stats_path: str | Path | None = None,
    tokenizer_path: str | Path | None = None,
    protocol: Protocol | None = None,
    overrides: Mapping[str, Any] | None = None,
    keeps_masters: bool = False,
) -> Pi0Policy:
    """Load a pi0 or pi0.5 from a checkpoint folder of openpi, LeRobot, RLinf, transformers or the own layout.

    Args:
        path: A folder, or ``builtin`` for the embedded tiny policy.
        device: Where the network runs.
        batch_size: Most samples of a network call of ``act``; ``auto`` is 4 on a CPU and 64 on a GPU.
        norm_stats_path: Replaces the folder's normalization statistics.
        tokenizer_path: Replaces the folder's tokenizer.
        protocol: Preset of pre- and post-processing; None takes the one of the layout.
        overrides: Keys of ``PolicyCard`` that win over the files and the preset.
        keeps_masters: Store all weights in float32 whatever the compute dtype, to train all of them.

    Returns:
        The policy, in eval mode.
    """
    choices = Choices(
        protocol=protocol,
        overrides=overrides or {},
        norm_stats_path=None if norm_stats_path is None else Path(norm_stats_path),
        tokenizer_path=None if tokenizer_path is None else Path(tokenizer_path),
    )
    contents = read_folder(find_folder(path), choices)
    is_given = is_precision_given(contents.layout, choices.overrides)
    card = card_on(device, contents.card, is_given=is_given)
    with no_init_weights():
        network = Pi0Network(contents.config)
    dtype = getattr(torch, card.dtype)
    with verified(contents.sources):
        load_weights(network, contents.tensors, dtype, keeps_masters=keeps_masters)
    return Pi0Policy(
        network=network,
        card=card,
        stats=contents.stats,
        tokenizer=contents.tokenizer,
        device=device,
        batch_size=choose_batch_size(batch_size, torch.device(device).type),
        not_followed=contents.not_followed,
        assumed=contents.assumed,
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
    folder = _save_texts(policy, Path(folder))
    network = policy.network
    sources = _whole(network, trained_tensors(network.core))
    save_weights(
        folder / WEIGHTS, {name: replace(each, dtype=dtype) for name, each in sources.items()}
    )


def save_trained(
    policy: Pi0Policy,
    folder: Path,
    trained: Mapping[str, Tensor],
    base: Base | None,
    *,
    is_whole: bool,
) -> None:
    """Write a policy in training: what has changed, beside the name of what it was trained from.

    Args:
        policy: What is saved; weights that are not trained are read from it.
        folder: As in ``save_policy``.
        trained: What training has changed, as ``trained_tensors`` names it; may be older than the policy's own.
        base: What it was trained from; without one the folder is whole.
        is_whole: Write the weights that training left alone as well, in the type that the base has them in.
    """
    _save_texts(policy, folder)
    if base is not None:
        write_atomically(folder / BASE, base.to_json())
    if base is None or is_whole:
        sources = _whole(policy.network, trained, base.dtypes if base else {})
    else:
        sources = {name: _source(tensor) for name, tensor in trained.items()}
    save_weights(folder / WEIGHTS, sources)


def _save_texts(policy: Pi0Policy, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "config.json": policy.network.config.to_json_string(use_diff=False),
        "policy.json": policy.card.to_json(),
        "norm_stats.json": policy.codec.stats.to_json(),
        "tokenizer.json": policy.tokenizer.to_str(pretty=True),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text)
    return folder


def new_policy(
    *,
    config: PI0Config,
    card: PolicyCard,
    stats: NormStats,
    tokenizer: Tokenizer,
    seed: int,
    device: torch.device | str = "cpu",
    batch_size: int | AutoSize = "auto",
) -> Pi0Policy:
    """Return an untrained policy whose weights are a function of the seed."""
    # transformers draws from torch's global generator, which is put back afterwards
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Pi0Network(config)
        _initialize(network)
    return Pi0Policy(
        network=network,
        card=card,
        stats=stats,
        tokenizer=tokenizer,
        device=device,
        batch_size=choose_batch_size(batch_size, torch.device(device).type),
    )


def save_weights(path: Path, sources: Mapping[str, TensorSource]) -> None:
    """Write the weights, readable for whom the process lets read its files."""
    fill_atomically(path, lambda file: write_safetensors(file, sources))


def _whole(
    network: Pi0Network,
    trained: Mapping[str, Tensor],
    dtypes: Mapping[str, torch.dtype] | None = None,
) -> dict[str, TensorSource]:
    """Return every weight under transformers' name; what is not trained in ``dtypes``, else in float32."""
    sources: dict[str, TensorSource] = {}
    for name, tensor in plain_tensors(network.core).items():
        owner = name.removesuffix(".weight")
        if owner + DOWN in trained:
            down, up = trained[owner + DOWN], trained[owner + UP]
            merged = partial(_merged, tensor, down, up)
            sources[name] = TensorSource(
                shape=tuple(tensor.shape), dtype=torch.float32, read=merged
            )
        elif name in trained:
            sources[name] = _source(trained[name])
        else:
            sources[name] = _source(tensor, type_on_disk(tensor, (dtypes or {}).get(name)))
    return sources


def _merged(*tensors: Tensor) -> Tensor:
    weight, down, up = (tensor.to("cpu") for tensor in tensors)
    return with_adapter(weight, down, up)


def type_on_disk(tensor: Tensor, stored: torch.dtype | None) -> torch.dtype:
    """Return the type that a weight was stored in, or, if it was loaded in a narrower one, that."""
    if stored is None:
        return torch.float32
    is_wide = torch.promote_types(stored, tensor.dtype) == tensor.dtype
    return stored if is_wide else tensor.dtype


def _source(tensor: Tensor, dtype: torch.dtype = torch.float32) -> TensorSource:
    return TensorSource(
        shape=tuple(tensor.shape),
        dtype=dtype,
        # a copy: what numpy has looked at can no longer be freed, as sharded learning frees weights
        read=lambda: tensor.detach().to("cpu", dtype, copy=True),
    )


def load_weights(
    network: Pi0Network,
    tensors: Mapping[str, StoredTensor],
    dtype: torch.dtype,
    *,
    keeps_masters: bool = False,
) -> None:
    """Fill the network from matched tensors, one at a time; unused ones are not read.

    Args:
        network: Its parameters are overwritten.
        tensors: By transformers' names.
        dtype: Precision of the vision-language model, see ``Pi0Network.cast_backbone``.
        keeps_masters: See there.
    """
    parameters = dict(network.core.named_parameters())
    for parameter in parameters.values():
        parameter.data = parameter.data.new_empty(0)  # so that casting costs nothing
    network.cast_backbone(dtype, keeps_masters=keeps_masters)
    # in the order of the files, which is the cheap one
    for name, stored in tensors.items():
        if name not in parameters:
            continue
        parameter = parameters[name]
        parameter.data = stored.read().to(parameter.dtype, copy=True).contiguous()
        if not all(torch.isfinite(end) for end in torch.aminmax(parameter.data)):
            raise ValueError(
                f"{stored.path}: tensor {name} holds NaN or infinity; use another checkpoint"
            )


def find_folder(path: str | Path) -> Path:
    """Return the folder that a path or ``builtin`` means."""
    if str(path) == BUILTIN:
        return Path(str(importlib.resources.files("pi0") / BUILTIN))
    folder = Path(path).expanduser()
    try:
        mode = folder.stat().st_mode
    except FileNotFoundError:
        raise FileNotFoundError(
            f"policy_path {str(path)!r} does not exist; use {BUILTIN!r} or a checkpoint folder"
        ) from None
    if not stat.S_ISDIR(mode):
        raise ValueError(
            f"policy_path {str(path)!r} is a file; give the checkpoint folder that holds it"
        )
    return folder


def _initialize(network: Pi0Network) -> None:
    """Scale weights by fan-in as openpi does; transformers' 0.02 suits only wide networks."""
    vlm = network.core.model.vlm
    parts = [network.core.model.dit, vlm.language_model, vlm.multi_modal_projector]
    parts += [network.core.embed_action_time, network.core.action_out_proj]
    for module in (module for part in parts for module in part.modules()):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=1.0 / math.sqrt(module.in_features))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for norm in (
        module for module in network.core.model.dit.modules() if isinstance(module, AdaptiveNorm)
    ):
        norm.close_gates()
    words = vlm.language_model.embed_tokens
    # Gemma multiplies embeddings by sqrt(width): tokens start with unit variance
    nn.init.normal_(words.weight, std=1.0 / math.sqrt(words.embedding_dim))
