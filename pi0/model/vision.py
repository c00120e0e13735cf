"""SigLIP's forward pass on transformers' modules, and how images and words become tokens."""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from pi0.model.gemma import gelu
from pi0.model.products import project


def embed_prefix(
    core: Any, pixels: Tensor, token_ids: Tensor, compute_dtype: torch.dtype
) -> Tensor:
    """Return the prefix tokens, float32 [B, L, width], of pixels [B, N, 3, size, size] and ids [B, L]."""
    vlm = core.model.vlm
    features = encode_image(vlm.vision_tower, pixels.flatten(0, 1), compute_dtype)
    features = project(vlm.multi_modal_projector.linear, features.to(compute_dtype))
    features = features.float().unflatten(0, pixels.shape[:2]).flatten(1, 2)
    table = vlm.language_model.embed_tokens
    words = F.embedding(token_ids[:, features.shape[1] :], table.weight, table.padding_idx)
    # float32 masters are rounded before they are scaled, as a table in half precision would be
    words = words.to(compute_dtype) * table.embed_scale.to(compute_dtype)
    return torch.cat([features, words.float()], dim=1)


def encode_image(tower: Any, images: Tensor, dtype: torch.dtype) -> Tensor:
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
