"""Small JAX checkpoints as orbax lays them out, written with tensorstore; formulas independent of the reader."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorstore
import torch

from pi0.model.architecture import build_whole_core
from tests.policy_parts import small_card, small_config

HEADS, NUM_LAYERS, VISION_LAYERS = 2, 2, 2
VISION = "paligemma_with_expert.paligemma.model.vision_tower.vision_model."
PALIGEMMA = "paligemma_with_expert.paligemma.model."
GEMMA = f"{PALIGEMMA}language_model."
EXPERT = "paligemma_with_expert.gemma_expert.model."
OPENPI_NAMES = (
    ("model.vlm.vision_tower.", VISION),
    ("model.vlm.", PALIGEMMA),
    ("model.dit.", EXPERT),
    ("embed_action_time.", ""),
)


def openpi_tensors(*, is_pi05: bool) -> dict[str, np.ndarray]:
    """Return random weights of a small pi0 or pi0.5 under openpi's PyTorch names, as float32."""
    torch.manual_seed(3)
    core = build_whole_core(small_config(small_card(), is_pi05=is_pi05))
    tensors = {}
    for name, parameter in core.named_parameters():
        if name == "model.dit.embed_tokens.weight":  # openpi's expert has no words
            continue
        for here, there in OPENPI_NAMES:
            if name.startswith(here):
                name = there + name.removeprefix(here)  # noqa: PLW2901
                break
        tensors[name] = torch.randn(parameter.shape).numpy()
    return tensors


def jax_tree(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return openpi's JAX arrays of PyTorch weights: the comments give einsum shapes of models/gemma.py."""

    def stack(name, depth, shape=lambda x: x):
        return np.stack([shape(tensors[name.format(layer)]) for layer in range(depth)])

    tree = {}
    block = "PaliGemma/img/Transformer/encoderblock/"
    layer = f"{VISION}encoder.layers.{{}}."
    for number in (0, 1):
        for leaf, part in (("scale", "weight"), ("bias", "bias")):
            name = f"{layer}layer_norm{number + 1}.{part}"
            tree[f"{block}LayerNorm_{number}/{leaf}"] = stack(name, VISION_LAYERS)
        dense = f"{block}MlpBlock_0/Dense_{number}"
        tree[f"{dense}/kernel"] = stack(
            f"{layer}mlp.fc{number + 1}.weight", VISION_LAYERS, np.transpose
        )
        tree[f"{dense}/bias"] = stack(f"{layer}mlp.fc{number + 1}.bias", VISION_LAYERS)
    for jax, name in (("query", "q"), ("key", "k"), ("value", "v")):
        there = f"{block}MultiHeadDotProductAttention_0/{jax}"
        name = f"{layer}self_attn.{name}_proj"  # noqa: PLW2901
        tree[f"{there}/kernel"] = stack(  # [in, heads, D]
            f"{name}.weight", VISION_LAYERS, lambda x: x.T.reshape(x.shape[1], HEADS, -1)
        )
        tree[f"{there}/bias"] = stack(f"{name}.bias", VISION_LAYERS, lambda x: x.reshape(HEADS, -1))
    there = f"{block}MultiHeadDotProductAttention_0/out"
    name = f"{layer}self_attn.out_proj"
    tree[f"{there}/kernel"] = stack(  # [heads, D, out]
        f"{name}.weight", VISION_LAYERS, lambda x: x.T.reshape(HEADS, -1, x.shape[0])
    )
    tree[f"{there}/bias"] = stack(f"{name}.bias", VISION_LAYERS)
    for leaf, part in (("scale", "weight"), ("bias", "bias")):
        tree[f"PaliGemma/img/Transformer/encoder_norm/{leaf}"] = tensors[
            f"{VISION}post_layernorm.{part}"
        ]
    patch = tensors[f"{VISION}embeddings.patch_embedding.weight"]
    tree["PaliGemma/img/embedding/kernel"] = patch.transpose(2, 3, 1, 0)  # [h, w, in, out]
    tree["PaliGemma/img/embedding/bias"] = tensors[f"{VISION}embeddings.patch_embedding.bias"]
    positions = tensors[f"{VISION}embeddings.position_embedding.weight"]
    tree["PaliGemma/img/pos_embedding"] = positions[None]
    linear = f"{PALIGEMMA}multi_modal_projector.linear"
    tree |= dense_of(tensors, "PaliGemma/img/head", linear)
    tree["PaliGemma/llm/embedder/input_embedding"] = tensors[f"{GEMMA}embed_tokens.weight"]
    for suffix, stem in (("", GEMMA), ("_1", EXPERT)):
        tree |= gemma_tree(tensors, suffix, stem, stack)
    for name in tensors:
        if name.endswith(".weight") and not name.startswith("paligemma_with_expert."):
            projection = name.removesuffix(".weight")
            tree |= dense_of(tensors, projection, projection)
    return tree


def dense_of(tensors, there, here):
    return {
        f"{there}/kernel": tensors[f"{here}.weight"].T,
        f"{there}/bias": tensors[f"{here}.bias"],
    }


def gemma_tree(tensors, suffix, stem, stack):
    layer, there = f"{stem}layers.{{}}.", "PaliGemma/llm/layers/"

    def weights(name, shape):
        return stack(f"{layer}{name}.weight", NUM_LAYERS, shape)

    heads_in_d = weights(  # [heads, in, D]
        "self_attn.q_proj", lambda x: x.reshape(HEADS, -1, x.shape[1]).transpose(0, 2, 1)
    )
    keys, values = (weights(f"self_attn.{name}_proj", np.transpose) for name in "kv")
    gate, up = (weights(f"mlp.{name}_proj", np.transpose) for name in ("gate", "up"))
    tree = {
        f"{there}attn/q_einsum{suffix}/w": heads_in_d,
        f"{there}attn/kv_einsum{suffix}/w": np.stack([keys, values], axis=1)[:, :, None],
        f"{there}attn/attn_vec_einsum{suffix}/w": weights(
            "self_attn.o_proj", lambda x: x.T.reshape(HEADS, -1, x.shape[0])
        ),
        f"{there}mlp{suffix}/gating_einsum": np.stack([gate, up], axis=1),
        f"{there}mlp{suffix}/linear": weights("mlp.down_proj", np.transpose),
    }
    is_adaptive = f"{stem}norm.dense.weight" in tensors
    for jax, name in (("pre_attention", "input"), ("pre_ffw", "post_attention")):
        name = f"{layer}{name}_layernorm"  # noqa: PLW2901
        if is_adaptive:
            dense = f"{there}{jax}_norm{suffix}/Dense_0"
            tree[f"{dense}/kernel"] = stack(f"{name}.dense.weight", NUM_LAYERS, np.transpose)
            tree[f"{dense}/bias"] = stack(f"{name}.dense.bias", NUM_LAYERS)
        else:
            tree[f"{there}{jax}_norm{suffix}/scale"] = stack(f"{name}.weight", NUM_LAYERS)
    last = f"PaliGemma/llm/final_norm{suffix}"
    if is_adaptive:
        return tree | dense_of(tensors, f"{last}/Dense_0", f"{stem}norm.dense")
    return tree | {f"{last}/scale": tensors[f"{stem}norm.weight"]}


def write_orbax(
    params: Path,
    tree: Mapping[str, np.ndarray],
    *,
    is_ocdbt: bool = True,
    leaf: tuple[str, ...] = (),
    dtype: str = "float32",
) -> Path:
    """Write arrays and ``_METADATA`` as orbax does, every array in two pieces where it can be."""
    params.mkdir(parents=True)
    listed = {}
    for name, values in tree.items():
        path = ("params", *name.split("/"), *leaf)
        keys = [{"key": part, "key_type": 2} for part in path]
        listed[str(path)] = {"key_metadata": keys, "value_metadata": {"value_type": "jax.Array"}}
        base = {"driver": "file", "path": f"{params}/"}
        stored = ".".join(path)
        kvstore = {"driver": "ocdbt", "base": base, "path": f"{stored}/"}
        if not is_ocdbt:
            kvstore = {"driver": "file", "path": f"{params / stored}/"}
        pieces = [-(-values.shape[0] // 2), *values.shape[1:]]
        spec = {"driver": "zarr", "kvstore": kvstore, "metadata": {"chunks": pieces}}
        spec["metadata"]["compressor"] = {"id": "zstd", "level": 1}
        array = tensorstore.open(
            spec, create=True, dtype=getattr(tensorstore, dtype), shape=values.shape
        ).result()
        array.write(values.astype(array.dtype.numpy_dtype)).result()
    tree_metadata = {"tree_metadata": listed, "use_zarr3": False, "custom_metadata": None}
    (params / "_METADATA").write_text(json.dumps(tree_metadata))
    return params
