"""The sizes of the network: read from the folder's config.json of any layout."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PI0Config
from transformers.initialization import no_init_weights

from pi0.card import PolicyCard
from pi0.model.architecture import PI05_KEY, build_whole_core, dit_sizes, vlm_sizes

VARIANTS = {"paligemma_variant": "gemma_2b", "action_expert_variant": "gemma_300m"}
_WIDTHS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
# what transformers raises for a value that is no configuration
_REFUSALS = (
    StrictDataclassError, ArithmeticError, AttributeError, IndexError, KeyError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
_MOST_LAYERS = 1000  # pi0 has 27 and 18; every one is built, if only as shapes
_TIME_KEYS = ("min_period", "max_period")
SIZE_KEYS = ("vlm_config", "dit_config", *_TIME_KEYS)


def read_sizes(
    path: Path, raw: Mapping[str, Any], image_size: int | None = None, *, is_pi05: bool = False
) -> PI0Config:
    """Return transformers' configuration; what ``raw`` leaves out is as in the published pi0.

    Args:
        path: The file, for messages.
        raw: Its content: of transformers, of LeRobot or of openpi. All may hold transformers'
            ``vlm_config`` and ``dit_config``, without which the sizes are those of the published pi0.
        image_size: Height and width in pixels of the network's images where LeRobot says so.
        is_pi05: Whether the tensors are those of a pi0.5.
    """
    sizes = {key: raw[key] for key in ("vlm_config", "dit_config") if key in raw}
    if raw.get("model_type") == "pi0" and "type" not in raw:
        return _build(path, dict(raw))
    for key, variant in VARIANTS.items():
        if not sizes and raw.get(key, variant) != variant:
            raise ValueError(f"{path}: {key} must be {variant!r}, got {raw[key]!r}")
    sizes |= {key: raw[key] for key in _TIME_KEYS if key in raw}
    config = _build(path, sizes | ({PI05_KEY: True} if is_pi05 else {}))
    vision = vlm_sizes(config).vision_config
    if image_size is not None and "vlm_config" in raw and vision.image_size != image_size:
        raise ValueError(
            f"{path}: image_resolution (once resize_imgs_with_padding) is {image_size} but vlm_config.vision_config.image_size is "
            f"{vision.image_size}; they must agree"
        )
    vision.image_size = image_size or vision.image_size
    return config


def with_card(config: PI0Config, card: PolicyCard) -> PI0Config:
    """Return the configuration with the widths and the horizon of the card."""
    changed = deepcopy(config)
    changed.chunk_size = card.horizon
    changed.max_action_dim = card.action_dim
    changed.max_state_dim = card.state_dim
    return changed


def is_published(config: PI0Config) -> bool:
    """Return whether the network has the sizes of the published pi0, padding widths aside."""
    return _measures(config) == _measures(PI0Config())


def image_size(config: PI0Config) -> int:
    """Return height and width in pixels of the network's images."""
    return vlm_sizes(config).vision_config.image_size


def tensor_shapes(config: PI0Config) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor, unused ones of transformers' pi0 included; nothing is allocated."""
    with torch.device("meta"), no_init_weights():
        core = build_whole_core(config)
    return {name: tuple(tensor.shape) for name, tensor in core.state_dict().items()}


def _build(path: Path, raw: dict[str, Any]) -> PI0Config:
    try:
        config = PI0Config.from_dict(_without_dtypes(raw))
        smallest, layers = min(_measures(config)), max(_layers(config))
        if smallest >= 1 and layers <= _MOST_LAYERS:
            tensor_shapes(config)
    except _REFUSALS as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a configuration of pi0 ({reason})") from None
    if smallest < 1:
        raise ValueError(f"{path}: every size must be >= 1, got {smallest}")
    if layers > _MOST_LAYERS:
        raise ValueError(f"{path}: num_hidden_layers must be <= {_MOST_LAYERS}, got {layers}")
    return config


def _without_dtypes(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without precisions, which the policy card decides."""
    return {
        key: _without_dtypes(value) if isinstance(value, dict) else value
        for key, value in raw.items()
        if key not in ("dtype", "torch_dtype")
    }


def _layers(config: PI0Config) -> list[int]:
    vlm = vlm_sizes(config)
    return [
        part.num_hidden_layers for part in (vlm.text_config, vlm.vision_config, dit_sizes(config))
    ]


def _measures(config: PI0Config) -> list[int]:
    vlm = vlm_sizes(config)
    gemmas = [
        getattr(part, key)
        for part in (vlm.text_config, dit_sizes(config))
        for key in (*_WIDTHS, "num_key_value_heads", "head_dim", "vocab_size")
    ]
    vision = [getattr(vlm.vision_config, key) for key in (*_WIDTHS, "image_size", "patch_size")]
    return [*gemmas, *vision, vlm.projection_dim, vlm.image_token_id]
