"""Writes small pi0 checkpoints as the real projects do: their names, their files, tiny sizes.

The names are spelt out here a second time, from what the projects write, so that a mistake in the
package's own table of names shows.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PI0Config, PI0ForConditionalGeneration

from pi0.tokenizer import build_tiny_tokenizer

WORDS = "open the drawer put bowl on plate wine bottle rack"
TOKENIZER = build_tiny_tokenizer(WORDS.split())
VOCABULARY = TOKENIZER.get_vocab_size()
HORIZON, WIDTH, IMAGE = 6, 12, 28
RLINF_WEIGHTS = "actor/model_state_dict/full_weights.pt"
STATS = {
    "state": {"mean": [0.1 * i for i in range(8)], "std": [0.5 + 0.1 * i for i in range(8)]},
    "actions": {"mean": [0.05 * i for i in range(7)], "std": [0.3 + 0.1 * i for i in range(7)]},
}
for _figures in STATS.values():
    _figures["q01"] = [m - 2 * s for m, s in zip(_figures["mean"], _figures["std"], strict=True)]
    _figures["q99"] = [m + 2 * s for m, s in zip(_figures["mean"], _figures["std"], strict=True)]

_GEMMA = {
    "model_type": "gemma",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "vocab_size": VOCABULARY,
}
SIZES = {
    "vlm_config": {
        "model_type": "paligemma",
        "text_config": _GEMMA,
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 24,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": IMAGE,
            "patch_size": 14,
            "vision_use_head": False,
        },
        "projection_dim": 32,
        "image_token_index": VOCABULARY,
    },
    "dit_config": _GEMMA | {"hidden_size": 24, "intermediate_size": 48},
}


def reference_model() -> PI0ForConditionalGeneration:
    """transformers' own model; norms and biases are moved off 1 and 0, which would hide mistakes."""
    config = PI0Config(**SIZES, chunk_size=HORIZON, max_state_dim=WIDTH, max_action_dim=WIDTH)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = PI0ForConditionalGeneration(config).eval()
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def openpi_tensors(model: PI0ForConditionalGeneration) -> dict[str, Tensor]:
    """What openpi's ``safetensors.torch.save_model`` writes: one of the two tied names."""
    renamed = {openpi_name(name): tensor.clone() for name, tensor in model.state_dict().items()}
    assert len(renamed) == len(model.state_dict())
    return renamed


def openpi_name(name: str) -> str:
    vlm, expert = "paligemma_with_expert.paligemma.", "paligemma_with_expert.gemma_expert."
    if name == "model.vlm.language_model.embed_tokens.weight":
        return f"{vlm}lm_head.weight"
    if name == "model.dit.embed_tokens.weight":
        return f"{expert}lm_head.weight"
    name = name.removeprefix("embed_action_time.")
    name = re.sub(r"^model\.dit\.", f"{expert}model.", name)
    name = re.sub(r"^model\.vlm\.vision_tower\.", f"{vlm}model.vision_tower.vision_model.", name)
    return re.sub(r"^model\.vlm\.", f"{vlm}model.", name)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    TOKENIZER.save(str(folder / "tokenizer.json"))


def write_openpi(folder: Path, model: PI0ForConditionalGeneration) -> Path:
    """The folder that openpi's converter leaves, with a tokenizer beside it."""
    write_tokenizer(folder)
    save_file(openpi_tensors(model), folder / "model.safetensors")
    content = {"action_dim": WIDTH, "action_horizon": HORIZON, "precision": "float32"}
    write_json(folder / "config.json", content | SIZES)
    stats = folder / "assets/physical-intelligence/libero/norm_stats.json"
    write_json(stats, {"norm_stats": STATS})
    return folder


def write_rlinf(folder: Path, model: PI0ForConditionalGeneration) -> Path:
    """A run of RLinf: a dictionary of tensors, statistics without ``assets``."""
    write_openpi(folder, model)
    (folder / "model.safetensors").unlink()
    (folder / "assets/physical-intelligence").rename(folder / "physical-intelligence")
    weights = folder / RLINF_WEIGHTS
    weights.parent.mkdir(parents=True)
    torch.save(openpi_tensors(model), weights)
    return folder


def write_lerobot(folder: Path, model: PI0ForConditionalGeneration) -> Path:
    """A ``pretrained_model`` folder of LeRobot 0.4 and later."""
    write_tokenizer(folder / "tokenizer")
    tensors = {f"model.{name}": tensor for name, tensor in openpi_tensors(model).items()}
    save_file(tensors, folder / "model.safetensors")
    write_json(folder / "config.json", lerobot_config() | SIZES)
    flat = {
        f"{feature}.{name}": torch.tensor(values, dtype=torch.float32)
        for feature, group in (("observation.state", "state"), ("action", "actions"))
        for name, values in STATS[group].items()
    }
    for direction, step, name in (("pre", 5, "normalizer"), ("post", 0, "unnormalizer")):
        state = f"policy_{direction}processor_step_{step}_{name}_processor.safetensors"
        save_file(flat, folder / state)
        norm_map = {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"}
        steps = [
            {"registry_name": "to_batch_processor", "config": {}},
            {
                "registry_name": f"{name}_processor",
                "config": {"eps": 1e-8, "features": {}, "norm_map": norm_map},
                "state_file": state,
            },
        ]
        write_json(folder / f"policy_{direction}processor.json", {"name": "x", "steps": steps})
    return folder


def lerobot_config() -> dict:
    image = {"type": "VISUAL", "shape": [3, 256, 256]}
    return {
        "type": "pi0",
        "chunk_size": HORIZON,
        "n_action_steps": 4,
        "max_state_dim": WIDTH,
        "max_action_dim": WIDTH,
        "num_inference_steps": 10,
        "tokenizer_max_length": 24,
        "dtype": "float32",
        "empty_cameras": 1,
        "use_relative_actions": False,
        "input_features": {
            "observation.images.image": image,
            "observation.images.image2": image,
            "observation.images.empty_camera_0": image,
            "observation.state": {"type": "STATE", "shape": [8]},
        },
        "output_features": {"action": {"type": "ACTION", "shape": [7]}},
        "normalization_mapping": {"STATE": "MEAN_STD", "ACTION": "MEAN_STD"},
    }


def write_transformers(folder: Path, model: PI0ForConditionalGeneration) -> Path:
    """transformers' plain state dict with a processor's statistics."""
    write_tokenizer(folder)
    save_file(model.state_dict(), folder / "model.safetensors")
    _write_transformers_files(folder, model)
    return folder


def write_transformers_saved(folder: Path, model: PI0ForConditionalGeneration) -> Path:
    """What ``save_pretrained`` writes, in shards."""
    write_tokenizer(folder)
    model.save_pretrained(folder, max_shard_size="100KB")
    _write_transformers_files(folder, model)
    return folder


def _write_transformers_files(folder: Path, model: PI0ForConditionalGeneration) -> None:
    (folder / "config.json").write_text(model.config.to_json_string(use_diff=False))
    stats = {f"{g}_{name}": STATS[g][name] for g in STATS for name in ("mean", "std")}
    write_json(folder / "processor_config.json", {"processor_class": "PI0Processor"} | stats)


WRITERS = {
    "openpi": write_openpi,
    "rlinf": write_rlinf,
    "lerobot": write_lerobot,
    "transformers": write_transformers,
    "transformers_saved": write_transformers_saved,
}


def rename_tensors(folder: Path, new_name: Callable[[str], str]) -> None:
    """Write the weights of a folder again under other names."""
    path = next(p for n in ("model.safetensors", RLINF_WEIGHTS) if (p := folder / n).exists())
    is_pickled = path.suffix == ".pt"
    tensors = torch.load(path) if is_pickled else load_file(path)
    renamed = {new_name(name): tensor for name, tensor in tensors.items()}
    torch.save(renamed, path) if is_pickled else save_file(renamed, path)


def name_before_4_52(name: str) -> str:
    """What transformers before 4.52 called a tensor of openpi's or LeRobot's."""
    vlm = "paligemma_with_expert.paligemma."
    name = name.replace(f"{vlm}model.language_model.", f"{vlm}language_model.model.")
    name = name.replace(f"{vlm}lm_head.", f"{vlm}language_model.lm_head.")
    return re.sub(rf"({re.escape(vlm)})model\.(vision_tower|multi_modal_projector)", r"\1\2", name)


def edit_json(path: Path, **changes: object) -> None:
    """Change keys of a JSON file; ``...`` deletes one."""
    raw = json.loads(path.read_text()) | changes
    write_json(path, {key: value for key, value in raw.items() if value is not ...})


def edit_step(folder: Path, direction: str, name: str, **settings: object) -> None:
    """Change settings of a step of one of LeRobot's pipelines; a new step is put in front."""
    path = folder / f"policy_{direction}processor.json"
    raw = json.loads(path.read_text())
    found = next((step for step in raw["steps"] if step["registry_name"] == name), None)
    if found is None:
        found = {"registry_name": name, "config": {}}
        raw["steps"].insert(0, found)
    found["config"] |= settings
    write_json(path, raw)
