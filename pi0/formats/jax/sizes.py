"""The sizes of the network: a JAX folder has no config.json, shapes say it all but the horizon."""

from collections.abc import Mapping
from typing import Any

from pi0.formats.jax.orbax import StoredArray
from pi0.model.architecture import PI05_KEY

_LAYERS = "PaliGemma/llm/layers/"
_BLOCK = "PaliGemma/img/Transformer/encoderblock/"
_ATTENTION = f"{_BLOCK}MultiHeadDotProductAttention_0/"


def sizes_of_tree(arrays: Mapping[str, StoredArray]) -> dict[str, Any]:
    """Return the content of transformers' ``config.json`` for a complete tree (``tree.to_openpi``)."""
    shapes = {name: array.shape for name, array in arrays.items()}
    text = _gemma(shapes, "")
    text["vocab_size"] = shapes["PaliGemma/llm/embedder/input_embedding"][0]
    patch = shapes["PaliGemma/img/embedding/kernel"][0]
    num_patches = shapes["PaliGemma/img/pos_embedding"][1]
    depth, width, heads, _ = shapes[f"{_ATTENTION}query/kernel"]
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": width,
        "intermediate_size": shapes[f"{_BLOCK}MlpBlock_0/Dense_0/kernel"][-1],
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "image_size": patch * round(num_patches**0.5),
        "patch_size": patch,
        "vision_use_head": False,
    }
    return {
        "model_type": "pi0",
        **({PI05_KEY: True} if "time_mlp_in/kernel" in shapes else {}),
        "vlm_config": {
            "model_type": "paligemma",
            "text_config": text,
            "vision_config": vision,
            "projection_dim": text["hidden_size"],
            # openpi has no token for images; this one lies behind its vocabulary
            "image_token_index": text["vocab_size"],
        },
        "dit_config": _gemma(shapes, "_1") | {"vocab_size": text["vocab_size"]},
        "max_action_dim": shapes["action_in_proj/kernel"][0],
        "max_state_dim": shapes.get("state_proj/kernel", shapes["action_in_proj/kernel"])[0],
    }


def _gemma(shapes: Mapping[str, tuple[int, ...]], suffix: str) -> dict[str, Any]:
    depth, heads, width, head_dim = shapes[f"{_LAYERS}attn/q_einsum{suffix}/w"]
    return {
        "model_type": "gemma",
        "hidden_size": width,
        "intermediate_size": shapes[f"{_LAYERS}mlp{suffix}/linear"][1],
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "num_key_value_heads": shapes[f"{_LAYERS}attn/kv_einsum{suffix}/w"][2],
        "head_dim": head_dim,
    }
