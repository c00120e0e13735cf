"""pi0's network: transformers' PI0 modules and weights behind ``prefix`` and ``velocity``.

Prefix tokens (pictures, instruction) never look at the suffix (state, noisy actions), so their keys
and values are computed once per look and reused by every denoise step. All denoise steps of a chunk
can be packed into one suffix: [state | step 0 | step 1 | ...]. The state looks at the prefix and
itself; the actions of a step look at prefix, state and their own step.

Shape legend: B rows, N cameras, L prefix tokens, S denoise steps, H actions per chunk, A action dims,
T = 1 + S * H suffix tokens, D head width.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn
from transformers import PI0Config, PI0ForConditionalGeneration

from pi0.activations import gelu, silu

ACTIVATION = "gelu_pytorch_tanh"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixCache:
    """What the suffix needs to know about B looks. Read-only.

    Attributes:
        keys: Per layer [B, 1, L, D].
        values: Per layer [B, 1, L, D].
        is_valid: Bool [B, L]; False is padding.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    is_valid: Tensor

    def rows(self, index: Tensor | slice) -> "PrefixCache":
        """Return the cache of some rows."""
        return PrefixCache(
            keys=tuple(key[index] for key in self.keys),
            values=tuple(value[index] for value in self.values),
            is_valid=self.is_valid[index],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SuffixLayout:
    """Who sees whom, and where, for S packed steps behind one cache.

    Attributes:
        is_visible: Bool [B, 1, T, L + T].
        cos: Rotary cosines [B, 1, T, D].
        sin: Rotary sines [B, 1, T, D].
    """

    is_visible: Tensor
    cos: Tensor
    sin: Tensor


class Pi0Network(nn.Module):
    """Owns the weights; ``core`` is transformers' module tree without its dead parts."""

    def __init__(self, config: PI0Config) -> None:
        """Build the network with transformers' random initialisation.

        Args:
            config: Sizes; one key-value head, as many expert layers as language layers.
        """
        super().__init__()
        _check_sizes(config)
        self.config = config
        build_config = deepcopy(config)
        # the expert's word embedding is never used: 263 million parameters in the real pi0
        dit_sizes(build_config).vocab_size = 1
        self.core: Any = PI0ForConditionalGeneration(build_config)
        self._drop_dead_modules()
        self.eval()

    @property
    def num_image_tokens(self) -> int:
        """Return how many prefix tokens one camera takes."""
        vision = vlm_sizes(self.config).vision_config
        return (vision.image_size // vision.patch_size) ** 2

    def prefix(self, pixels: Tensor, token_ids: Tensor, is_valid: Tensor) -> PrefixCache:
        """Read pictures and instructions once.

        Args:
            pixels: Float [B, N, 3, size, size] in [-1, 1].
            token_ids: Int64 [B, L], image tokens first.
            is_valid: Bool [B, L]; padding only at the end.

        Returns:
            Keys and values of every layer.
        """
        language = self.core.model.vlm.language_model
        hidden = self._embed_prefix(pixels, token_ids)
        positions = is_valid.long().cumsum(-1) - 1
        cos, sin = _rotary(language.rotary_emb, hidden, positions)
        is_visible = is_valid[:, None, None, :]
        keys, values = [], []
        for layer in language.layers:
            normed = _rms_norm(layer.input_layernorm, hidden)
            key, value = _key_value(layer, normed, cos, sin)
            keys.append(key)
            values.append(value)
            # nothing reads the last layer's output, only its keys and values
            if layer is not language.layers[-1]:
                seen = _attend(_query(layer, normed, cos, sin), key, value, is_visible)
                hidden = _finish_layer(layer, hidden, seen)
        return PrefixCache(keys=tuple(keys), values=tuple(values), is_valid=is_valid)

    def layout(self, cache: PrefixCache, num_steps: int) -> SuffixLayout:
        """Return masks and rotary angles of S packed steps; the same for every velocity call."""
        horizon = self.config.chunk_size
        step = torch.arange(num_steps, device=cache.is_valid.device).repeat_interleave(horizon)
        step = F.pad(step, (1, 0), value=-1)  # -1 is the state token
        is_own = (step[:, None] == step) | (step == -1)
        is_own = is_own.expand(len(cache.is_valid), 1, -1, -1)
        is_prefix = cache.is_valid[:, None, None, :].expand(-1, 1, len(step), -1)
        within = torch.arange(horizon, device=step.device).repeat(num_steps) + 1
        positions = cache.is_valid.sum(-1, keepdim=True) + F.pad(within, (1, 0))
        cos, sin = _rotary(
            self.core.model.dit.rotary_emb, self.core.action_out_proj.weight, positions
        )
        return SuffixLayout(is_visible=torch.cat([is_prefix, is_own], -1), cos=cos, sin=sin)

    def velocity(
        self,
        cache: PrefixCache,
        state: Tensor,
        x: Tensor,
        times: Tensor,
        layout: SuffixLayout | None = None,
    ) -> Tensor:
        """Return the velocity of S noisy chunks per row in one pass.

        Args:
            cache: Result of ``prefix``.
            state: Float [B, state_dim], normalised.
            x: Float32 [B, S, H, A].
            times: Float32 [S], or [B, S] for times of their own per row.
            layout: Result of ``layout(cache, S)``, to share it between calls.

        Returns:
            Float32 [B, S, H, A].
        """
        rows, num_steps, horizon, _ = x.shape
        layout = layout or self.layout(cache, num_steps)
        expert = self.core.model.dit
        hidden = self._embed_suffix(state, x, times.expand(rows, num_steps))
        for layer, past_key, past_value in zip(
            expert.layers, cache.keys, cache.values, strict=True
        ):
            normed = _rms_norm(layer.input_layernorm, hidden)
            query = _query(layer, normed, layout.cos, layout.sin)
            key, value = _key_value(layer, normed, layout.cos, layout.sin)
            key = torch.cat([past_key.to(key.dtype), key], dim=2)
            value = torch.cat([past_value.to(value.dtype), value], dim=2)
            hidden = _finish_layer(layer, hidden, _attend(query, key, value, layout.is_visible))
        hidden = _rms_norm(expert.norm, hidden[:, 1:])
        return self.core.action_out_proj(hidden).float().unflatten(1, (num_steps, horizon))

    def expert_parameters(self) -> list[nn.Parameter]:
        """Return the action expert and its projections."""
        return [p for name, p in self.core.named_parameters() if not name.startswith("model.vlm.")]

    def all_trainable_parameters(self) -> list[nn.Parameter]:
        """Return every parameter that can receive a gradient; dead ones do not exist here."""
        return list(self.core.parameters())

    def cast_backbone(self, dtype: torch.dtype) -> None:
        """Store the vision-language model in ``dtype``; the expert and all buffers stay float32."""
        for parameter in self.core.model.vlm.parameters():
            parameter.data = parameter.data.to(dtype)

    def _embed_prefix(self, pixels: Tensor, token_ids: Tensor) -> Tensor:
        vlm = self.core.model.vlm
        features = vlm.multi_modal_projector(self._see(pixels.flatten(0, 1)))
        features = features.unflatten(0, pixels.shape[:2]).flatten(1, 2)
        words = vlm.language_model.embed_tokens(token_ids[:, features.shape[1] :])
        return torch.cat([features, words], dim=1)

    def _see(self, images: Tensor) -> Tensor:
        """Return SigLIP's features [images, patches, width]; all cameras in one batch."""
        tower = self.core.model.vlm.vision_tower
        hidden = self._embed_patches(images) + tower.embeddings.position_embedding.weight
        for layer in tower.encoder.layers:
            normed = layer.layer_norm1(hidden)
            query, key, value = (
                _split_heads(project(normed), layer.self_attn.head_dim)
                for project in (
                    layer.self_attn.q_proj,
                    layer.self_attn.k_proj,
                    layer.self_attn.v_proj,
                )
            )
            seen = F.scaled_dot_product_attention(query, key, value)
            hidden = hidden + layer.self_attn.out_proj(seen.transpose(1, 2).flatten(2))
            widened = layer.mlp.fc1(layer.layer_norm2(hidden))
            hidden = hidden + layer.mlp.fc2(gelu(widened))
        return tower.post_layernorm(hidden)

    def _embed_patches(self, images: Tensor) -> Tensor:
        """Return the patch convolution as one matrix product, which treats every patch alike."""
        convolution = self.core.model.vlm.vision_tower.embeddings.patch_embedding
        size = convolution.kernel_size[0]
        patches = images.unflatten(3, (-1, size)).unflatten(2, (-1, size))
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        weight = convolution.weight.flatten(1)
        return F.linear(patches.to(weight.dtype), weight, convolution.bias)

    def _embed_suffix(self, state: Tensor, x: Tensor, times: Tensor) -> Tensor:
        embed = self.core.embed_action_time
        actions = embed.action_in_proj(x)
        clock = embed.sinusoid_embeds(times.flatten().float()).unflatten(0, times.shape)
        clock = clock[:, :, None, :].expand_as(actions)
        merged = embed.action_time_mlp_in(torch.cat([actions, clock.to(actions.dtype)], dim=-1))
        merged = embed.action_time_mlp_out(silu(merged)).flatten(1, 2)
        return torch.cat([embed.state_proj(state)[:, None], merged], dim=1)

    def _drop_dead_modules(self) -> None:
        model = self.core.model
        model.dit.embed_tokens = nn.Identity()
        model.vlm.language_model.norm = nn.Identity()
        last = model.vlm.language_model.layers[-1]
        last.post_attention_layernorm = last.mlp = nn.Identity()
        last.self_attn.q_proj = last.self_attn.o_proj = nn.Identity()


def vlm_sizes(config: PI0Config) -> Any:
    """Return the PaliGemma part; transformers types it too loosely to read its fields."""
    return config.vlm_config


def dit_sizes(config: PI0Config) -> Any:
    """Return the action expert's part."""
    return config.dit_config


def dead_tensor_names(config: PI0Config) -> frozenset[str]:
    """Return names that transformers' PI0 has but no forward pass ever uses."""
    last = f"model.vlm.language_model.layers.{vlm_sizes(config).text_config.num_hidden_layers - 1}"
    inner = ("self_attn.q_proj", "self_attn.o_proj", "post_attention_layernorm")
    inner += ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    dead = {f"{last}.{name}.weight" for name in inner}
    return frozenset(
        dead | {"model.dit.embed_tokens.weight", "model.vlm.language_model.norm.weight"}
    )


def _check_sizes(config: PI0Config) -> None:
    text, expert = vlm_sizes(config).text_config, dit_sizes(config)
    for name in ("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"):
        if getattr(text, name) != getattr(expert, name):
            raise ValueError(
                f"config.json: {name} must agree between text_config and dit_config, "
                f"got {getattr(text, name)} and {getattr(expert, name)}"
            )
    for part in (text, expert, vlm_sizes(config).vision_config):
        if part.hidden_act != ACTIVATION:
            raise ValueError(f"config.json: hidden_act must be {ACTIVATION}, got {part.hidden_act}")
    if text.num_key_value_heads != 1:
        raise ValueError(
            f"config.json: num_key_value_heads must be 1, got {text.num_key_value_heads}"
        )


def _rotary(rotary: nn.Module, like: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    cos, sin = rotary(like, positions)
    return cos[:, None], sin[:, None]


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def _split_heads(x: Tensor, head_dim: int) -> Tensor:
    """[B, T, heads * D] -> [B, heads, T, D]."""
    return x.unflatten(-1, (-1, head_dim)).transpose(1, 2)


def _rms_norm(norm: Any, x: Tensor) -> Tensor:
    scale = 1.0 + norm.weight.float()
    return F.rms_norm(x.float(), scale.shape, scale, norm.eps).to(x.dtype)


def _query(layer: Any, normed: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return the rotated query [B, heads, T, D]."""
    attention = layer.self_attn
    return _rotate(_split_heads(attention.q_proj(normed), attention.head_dim), cos, sin)


def _key_value(layer: Any, normed: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rotated key and the value, each [B, 1, T, D]."""
    attention = layer.self_attn
    key = _rotate(_split_heads(attention.k_proj(normed), attention.head_dim), cos, sin)
    return key, _split_heads(attention.v_proj(normed), attention.head_dim)


def _attend(query: Tensor, key: Tensor, value: Tensor, is_visible: Tensor) -> Tensor:
    """Return attention [B, T, heads * D]; the one key-value head is a view, never copied."""
    heads = query.shape[1]
    key, value = (x.expand(-1, heads, -1, -1) for x in (key, value))
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=is_visible)
    return seen.transpose(1, 2).flatten(2)


def _finish_layer(layer: Any, hidden: Tensor, seen: Tensor) -> Tensor:
    hidden = hidden + layer.self_attn.o_proj(seen)
    normed = _rms_norm(layer.post_attention_layernorm, hidden)
    gated = gelu(layer.mlp.gate_proj(normed)) * layer.mlp.up_proj(normed)
    return hidden + layer.mlp.down_proj(gated)
