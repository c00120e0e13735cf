"""Any checkpoint -> the files of openpi, LeRobot or transformers, tensor by tensor.

Weights go from file to file under other names, in their own precision; no network is built.
"""

import json
import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.numpy import save
from transformers import PI0Config

from pi0.card import SHARED, Layout, PolicyCard
from pi0.formats.base import verified
from pi0.formats.folder import Contents
from pi0.formats.lerobot.export import lerobot_config, lerobot_pipelines
from pi0.formats.sizes import VARIANTS, is_published
from pi0.formats.spellings import EMBEDDING, WRITTEN
from pi0.formats.weight_files import WEIGHTS, TensorSource, write_safetensors
from pi0.model.architecture import is_pi05
from pi0.norm_stats import NormStats

Target = Literal["openpi", "lerobot", "transformers"]

OPENPI_STATS = "assets/physical-intelligence/libero/norm_stats.json"
_LAYOUTS: Mapping[Target, Layout] = {
    "openpi": "openpi",
    "lerobot": "lerobot",
    "transformers": "transformers_saved",
}


def export_folder(contents: Contents, destination: Path, target: Target) -> None:
    """Write a folder that the target project reads; it appears whole or not at all.

    Args:
        contents: The checkpoint.
        destination: Must not exist.
        target: Whose files are written.

    Raises:
        ValueError: The target cannot express the policy.
        FileExistsError: The destination exists.
    """
    if destination.exists():
        raise FileExistsError(f"{destination} exists; name a folder that does not, or remove it")
    _refuse_inexpressible(contents.card, target, is_pi05=is_pi05(contents.config))
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        with verified(contents.sources):
            write_safetensors(temporary / WEIGHTS, _tensors(contents, _LAYOUTS[target]))
        _write_files(contents, temporary, target)
        temporary.rename(destination)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def not_stored(card: PolicyCard, target: Target) -> list[str]:
    """Return what the target's files cannot hold and its user has to set, one line each."""
    ours = {
        "openpi": {"resize": "openpi", "norm_formula": "openpi", "prompt_format": "openpi"},
        "lerobot": {"resize": "lerobot", "norm_formula": "lerobot", "prompt_format": "lerobot"},
        "transformers": {"norm_formula": "lerobot"},
    }[target]
    lines = [
        f"{key} is {getattr(card, key)} here, {target} uses {value}"
        for key, value in ours.items()
        if getattr(card, key) != value
    ]
    if card.gripper != "libero":
        lines.append(f"gripper is {card.gripper} here: turn the last action into LIBERO's -1 to +1")
    if target == "openpi":
        switch = f"extra_delta_transform={card.extra_delta}, action_horizon={card.horizon}"
        lines.append(f"openpi: use a training configuration with {switch}")
    if target == "openpi" and card.denoise_steps != SHARED["denoise_steps"]:
        lines.append(f"openpi: call sample_actions with num_steps={card.denoise_steps}")
    if target == "transformers" and card.extra_delta:
        lines.append("transformers: add the state's first six numbers to the first six actions")
    return lines


def _refuse_inexpressible(card: PolicyCard, target: Target, *, is_pi05: bool) -> None:
    if is_pi05 and target == "transformers":
        raise ValueError("transformers has no pi0.5; export with --format openpi or lerobot")
    if is_pi05 and target == "openpi" and card.prompt_state == "32":
        raise ValueError(
            "openpi puts 8 numbers of LIBERO's state into a prompt, this policy was trained with 32; "
            "export with --format lerobot"
        )
    only, spoken = ("quantile", "quantiles") if is_pi05 else ("z_score", "z-scores")
    if target != "lerobot" and card.norm_mode != only:
        raise ValueError(
            f"{target} normalizes {'pi0.5' if is_pi05 else 'pi0'} with {spoken} only, this policy uses "
            f"{card.norm_mode}; "
            "export with --format lerobot"
        )
    if card.state_encoding != "axis_angle":
        raise ValueError(
            f"{target} gives pi0 a state with axis-angle, this policy was trained with "
            f"{card.state_encoding}; it can only be used here"
        )


def _tensors(contents: Contents, layout: Layout) -> dict[str, TensorSource]:
    """Return every tensor that a strict loader requires; unused ones that no file stores become zeros."""
    likely = contents.tensors[EMBEDDING].dtype
    sources: dict[str, TensorSource] = {}
    # in the order of the files, which is the cheap one
    for name in dict.fromkeys((*contents.tensors, *contents.shapes)):
        stored, shape = contents.tensors.get(name), contents.shapes[name]
        sources[WRITTEN[layout].name_of(name)] = TensorSource(
            shape=shape,
            dtype=stored.dtype if stored else likely,
            read=stored.read if stored else partial(torch.zeros, shape, dtype=likely),
        )
    return sources


def _write_files(contents: Contents, folder: Path, target: Target) -> None:
    card, stats = contents.card, contents.stats
    texts: dict[str, Any] = {}
    if target == "openpi":
        texts["config.json"] = _openpi_config(contents)
        texts[OPENPI_STATS] = json.loads(stats.to_json())
    elif target == "lerobot":
        has_pi05 = is_pi05(contents.config)
        texts["config.json"] = lerobot_config(card, is_pi05=has_pi05) | _unusual_sizes(
            contents.config
        )
        pipelines, states = lerobot_pipelines(card, stats, is_pi05=has_pi05)
        texts |= pipelines
        for name, tensors in states.items():
            (folder / name).write_bytes(save(tensors))
    else:
        texts["config.json"] = contents.config.to_dict() | {
            "architectures": ["PI0ForConditionalGeneration"],
            "num_inference_steps": card.denoise_steps,
        }
        texts["processor_config.json"] = _processor(card, stats)
        texts["tokenizer_config.json"] = _tokenizer_config(contents)
    tokenizer = folder / ("tokenizer/tokenizer.json" if target == "lerobot" else "tokenizer.json")
    tokenizer.parent.mkdir(exist_ok=True)
    tokenizer.write_text(contents.tokenizer.to_str(pretty=True), "utf-8")
    for name, content in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _openpi_config(contents: Contents) -> dict[str, Any]:
    card = contents.card
    sizes = {"action_dim": card.action_dim, "action_horizon": card.horizon}
    precision = {"precision": card.dtype}
    return sizes | VARIANTS | precision | _unusual_sizes(contents.config)


def _unusual_sizes(config: PI0Config) -> dict[str, Any]:
    """Return transformers' size tables for a network that is not of the published sizes."""
    sizes = config.to_dict()
    return {} if is_published(config) else {k: sizes[k] for k in ("vlm_config", "dit_config")}


def _processor(card: PolicyCard, stats: NormStats) -> dict[str, Any]:
    patches = {"image_seq_length": 256} if card.image_size == 224 else {}
    size = {"max_height": card.image_size, "max_width": card.image_size}
    return {
        "processor_class": "PI0Processor",
        "image_processor": {
            "image_processor_type": "PI0ImageProcessor",
            "size": size,
            "pad_size": {"height": card.image_size, "width": card.image_size},
            **patches,
        },
        "state_mean": stats.state["mean"].tolist(),
        "state_std": stats.state["std"].tolist(),
        "actions_mean": stats.actions["mean"].tolist(),
        "actions_std": stats.actions["std"].tolist(),
        "max_state_dim": card.state_dim,
        "chunk_size": card.horizon,
    }


def _tokenizer_config(contents: Contents) -> dict[str, Any]:
    is_gemma = json.loads(contents.tokenizer.to_str())["model"]["type"] == "BPE"
    return {
        "tokenizer_class": "GemmaTokenizer" if is_gemma else "PreTrainedTokenizerFast",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
    }
