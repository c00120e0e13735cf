"""Images and instructions -> keys and values of every layer: SigLIP and the language model on transformers' modules.

Shape legend: B samples, N cameras, L prefix tokens.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from pi0.model.cache import PrefixCache, join_caches, padded, sample_passes, trimmed_length
from pi0.model.gemma import (
    Angles,
    additive_mask,
    attend,
    finish_layer,
    gelu,
    key_value_of,
    query_of,
    rms_norm,
    rotary_angles,
    run_layer,
)
from pi0.model.products import project


def read_prefix(
    core: Any,
    pixels: Tensor,
    token_ids: Tensor,
    is_valid: Tensor,
    compute_dtype: torch.dtype,
    *,
    is_checkpointed: bool,
) -> PrefixCache:
    """Return the cache of B observations, read in passes of a size; see ``Pi0Network.prefix``."""
    read = partial(_read_pass, core, compute_dtype=compute_dtype, is_checkpointed=is_checkpointed)
    return join_caches(
        [
            read(pixels[samples], token_ids[samples], is_valid[samples])
            for samples in sample_passes(is_valid)
        ]
    )


def _read_pass(
    core: Any,
    pixels: Tensor,
    token_ids: Tensor,
    is_valid: Tensor,
    *,
    compute_dtype: torch.dtype,
    is_checkpointed: bool,
) -> PrefixCache:
    length, num_tokens = trimmed_length(is_valid), is_valid.shape[1]
    token_ids, some_valid = token_ids[:, :length], is_valid[:, :length]
    mask = additive_mask(some_valid, compute_dtype)
    language = core.model.vlm.language_model
    hidden = _embed(core, pixels, token_ids, compute_dtype)
    angles = rotary_angles(language.rotary_emb, some_valid.long().cumsum(-1) - 1)
    keys, values = [], []
    for layer in language.layers:
        # nothing reads the last layer's output, only its keys and values
        is_last = layer is language.layers[-1]
        step = partial(_layer, layer, angles, mask, compute_dtype, is_last=is_last)
        key, value, hidden = run_layer(layer, step, hidden, is_checkpointed=is_checkpointed)
        keys.append(padded(key, num_tokens))
        values.append(padded(value, num_tokens))
    return PrefixCache(keys=tuple(keys), values=tuple(values), is_valid=is_valid)


def _layer(
    layer: Any, angles: Angles, mask: Tensor, dtype: torch.dtype, hidden: Tensor, *, is_last: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return key, value and output of a layer of the language model."""
    normed = rms_norm(layer.input_layernorm, hidden, dtype)
    key, value = key_value_of(layer, normed, angles)
    if not is_last:
        attended = attend(query_of(layer, normed, angles), key, value, mask)
        hidden = finish_layer(layer, hidden, attended)
    return key, value, hidden


def _embed(core: Any, pixels: Tensor, token_ids: Tensor, compute_dtype: torch.dtype) -> Tensor:
    """Return the prefix tokens, float32 [B, L, width], of pixels [B, N, 3, size, size] and ids [B, L]."""
    vlm = core.model.vlm
    features = _encode_image(vlm.vision_tower, pixels.flatten(0, 1), compute_dtype)
    features = project(vlm.multi_modal_projector.linear, features.to(compute_dtype))
    features = features.float().unflatten(0, pixels.shape[:2]).flatten(1, 2)
    table = vlm.language_model.embed_tokens
    words = F.embedding(token_ids[:, features.shape[1] :], table.weight, table.padding_idx)
    # float32 masters are rounded before they are scaled, as a table in half precision would be
    words = words.to(compute_dtype) * table.embed_scale.to(compute_dtype)
    return torch.cat([features, words.float()], dim=1)


def _encode_image(tower: Any, images: Tensor, dtype: torch.dtype) -> Tensor:
    """Return SigLIP's features.

    Args:
        tower: transformers' SigLIP model.
        images: Float32 [n, 3, size, size] in [-1, 1].
        dtype: Precision of the projections; the residual stream is float32.

    Returns:
        Float32 [n, patches, width].
    """
    hidden = _embed_patches(tower.embeddings.patch_embedding, images)
    hidden = hidden + tower.embeddings.position_embedding.weight
    for layer in tower.encoder.layers:
        hidden = hidden + _attention(layer.self_attn, _norm(layer.layer_norm1, hidden, dtype))
        widened = project(layer.mlp.fc1, _norm(layer.layer_norm2, hidden, dtype))
        hidden = hidden + project(layer.mlp.fc2, gelu(widened))
    return _norm(tower.post_layernorm, hidden, torch.float32)


def _attention(attention: Any, normed: Tensor) -> Tensor:
    query, key, value = (
        project(linear, normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    attended = F.scaled_dot_product_attention(query, key, value)
    return project(attention.out_proj, attended.transpose(1, 2).flatten(2))


def _norm(norm: Any, x: Tensor, dtype: torch.dtype) -> Tensor:
    weight, bias = norm.weight.float(), norm.bias.float()
    return F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps).to(dtype)


def _embed_patches(convolution: Any, images: Tensor) -> Tensor:
    """Return the patch convolution as one matrix product, which treats every patch alike."""
    size = convolution.kernel_size[0]
    patches = images.unflatten(3, (-1, size)).unflatten(2, (-1, size))
    patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    weight, bias = convolution.weight.flatten(1).float(), convolution.bias.float()
    return F.linear(patches, weight, bias)
