"""Pictures, words, state, noisy actions and denoise times -> tokens.

Shape legend: B rows, N cameras, L prefix tokens, S denoise steps, H actions per chunk, A action dims,
W expert width.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from pi0.activations import silu
from pi0.gemma import project
from pi0.vision import see


def embed_prefix(
    core: Any, pixels: Tensor, token_ids: Tensor, compute_dtype: torch.dtype
) -> Tensor:
    """Return the prefix tokens, float32 [B, L, width], of pixels [B, N, 3, size, size] and ids [B, L]."""
    vlm = core.model.vlm
    features = see(vlm.vision_tower, pixels.flatten(0, 1), compute_dtype)
    features = project(vlm.multi_modal_projector.linear, features.to(compute_dtype))
    features = features.float().unflatten(0, pixels.shape[:2]).flatten(1, 2)
    table = vlm.language_model.embed_tokens
    words = F.embedding(token_ids[:, features.shape[1] :], table.weight, table.padding_idx)
    # float32 masters are rounded before they are scaled, as a table in half precision would be
    words = words.to(compute_dtype) * table.embed_scale.to(compute_dtype)
    return torch.cat([features, words.float()], dim=1)


def embed_suffix(
    core: Any, state: Tensor, x: Tensor, clocks: Tensor, shift: Tensor | None
) -> Tensor:
    """Return the suffix tokens, float32 [B, 1 + S * H, W].

    Args:
        core: The module tree.
        state: Float [B, state_dim], normalised.
        x: Float32 [B, S, H, A].
        clocks: Result of ``embed_times``, [S, W] or [B, S, W].
        shift: Float32 [W], added to the state token; None for nothing.
    """
    embed = core.embed_action_time
    actions = embed.action_in_proj(x)
    mixed = F.linear(actions, embed.action_time_mlp_in.weight[:, : actions.shape[-1]])
    mixed = silu(mixed + clocks[..., None, :])
    merged = embed.action_time_mlp_out(mixed).flatten(1, 2)
    token = embed.state_proj(state) if shift is None else embed.state_proj(state) + shift
    return torch.cat([token[:, None], merged], dim=1)


def embed_times(core: Any, times: Tensor) -> Tensor:
    """Return what denoise times of any shape contribute to the time MLP, float32 [..., W]."""
    embed = core.embed_action_time
    waves = embed.sinusoid_embeds(times.flatten().float()).view(*times.shape, -1)
    mixer = embed.action_time_mlp_in
    return F.linear(waves, mixer.weight[:, waves.shape[-1] :], mixer.bias)
