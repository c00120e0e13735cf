"""pi0's network: transformers' PI0 modules and weights behind ``prefix`` and ``velocity``.

Prefix tokens (images, instruction) never attend to the suffix (state, noisy actions), so their keys
and values are computed once per observation and reused by every denoise step. All denoise steps of an
action chunk can be packed into one suffix: [state | step 0 | step 1 | ...]. The state attends to the prefix and
itself; the actions of a step attend to prefix, state and their own step.

Precision: residual streams, norms, rotary angles, projections of state, time and actions are float32;
attention and MLPs run in ``compute_dtype``.

Shape legend: B samples, N cameras, L prefix tokens, S denoise steps, H actions per chunk, A action dims,
T = 1 + S * H suffix tokens, D head width, W expert width.
"""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PI0Config, PI0ForConditionalGeneration

from pi0.model.architecture import check_sizes, dit_sizes, drop_unused_modules, vlm_sizes
from pi0.model.cache import (
    PrefixCache,
    SuffixLayout,
    attend_suffix,
    join_caches,
    make_buffers,
    padded,
    sample_passes,
    suffix_positions,
    trimmed_length,
    visibility,
)
from pi0.model.gemma import (
    Angles,
    attend,
    finish_layer,
    key_value_of,
    query_of,
    rms_norm,
    rotary_angles,
)
from pi0.model.vision import embed_prefix, embed_suffix, embed_times


class Pi0Network(nn.Module):
    """Owns the weights; ``core`` is transformers' module tree without its unused parts.

    Attributes:
        compute_dtype: Precision of attention and MLPs.
        unconditional: Float32 [W], what the unconditional branch of classifier-free guidance adds to the
            state token; None where there is no such branch.
        checkpoints_layers: Whether a backward pass computes every layer again instead of keeping what
            it computed on the way.
        is_compiled: Whether ``denoise`` runs through ``torch.compile``.
    """

    def __init__(self, config: PI0Config) -> None:
        """Build the network with transformers' random initialization.

        Args:
            config: Sizes; one key-value head, as many expert layers as language layers.
        """
        super().__init__()
        check_sizes(config)
        self.config = config
        self.compute_dtype = torch.float32
        self.checkpoints_layers = False
        self.is_compiled = False
        self.unconditional: nn.Parameter | None = None
        build_config = deepcopy(config)
        # the expert's word embedding is never used: 263 million parameters in the real pi0
        dit_sizes(build_config).vocab_size = 1
        self.core: Any = PI0ForConditionalGeneration(build_config)
        drop_unused_modules(self.core)
        self._denoise: Callable[..., Tensor] = self._suffix
        self.eval()

    @property
    def num_image_tokens(self) -> int:
        """Return how many prefix tokens one camera takes."""
        vision = vlm_sizes(self.config).vision_config
        return (vision.image_size // vision.patch_size) ** 2

    def prefix(self, pixels: Tensor, token_ids: Tensor, is_valid: Tensor) -> PrefixCache:
        """Read images and instructions once.

        Args:
            pixels: Float [B, N, 3, size, size] in [-1, 1].
            token_ids: Int64 [B, L], image tokens first.
            is_valid: Bool [B, L]; padding only at the end.

        Returns:
            Keys and values of every layer.
        """
        return join_caches(
            [
                self._read(pixels[samples], token_ids[samples], is_valid[samples])
                for samples in sample_passes(is_valid)
            ]
        )

    def layout(
        self, cache: PrefixCache, num_steps: int, *, is_static: bool = False
    ) -> SuffixLayout:
        """Return masks, rotary angles and, where static, key-value buffers of S packed steps.

        Args:
            cache: Result of ``prefix``.
            num_steps: S.
            is_static: Let every ``denoise`` write its keys and values into the same buffers; for one
                step and without gradients only.
        """
        horizon = self.config.chunk_size
        assert not is_static or num_steps == 1, "buffers hold one step"
        is_visible, to_state = visibility(cache.is_valid, num_steps, horizon)
        positions = suffix_positions(cache.is_valid, num_steps, horizon)
        return SuffixLayout(
            num_steps=num_steps,
            angles=rotary_angles(self.core.model.dit.rotary_emb, positions),
            is_visible=is_visible,
            is_visible_to_state=to_state,
            buffers=make_buffers(cache, 1 + horizon) if is_static else None,
        )

    def time_embeddings(self, times: Tensor) -> Tensor:
        """Return what denoise times contribute to the time MLP, float32 [..., W].

        Args:
            times: Float32 of any shape, 1 is noise and 0 is action.
        """
        return embed_times(self.core, times)

    def add_unconditional(self) -> nn.Parameter:
        """Give the network an unconditional branch that begins equal to the network itself."""
        width = self.core.embed_action_time.state_proj.out_features
        device = self.core.embed_action_time.state_proj.weight.device
        self.unconditional = nn.Parameter(torch.zeros(width, device=device))
        return self.unconditional

    def velocity(
        self,
        cache: PrefixCache,
        state: Tensor,
        x: Tensor,
        times: Tensor,
        *,
        is_conditional: bool = True,
    ) -> Tensor:
        """Return the velocity of S noisy action chunks per sample in one pass.

        Args:
            cache: Result of ``prefix``.
            state: Float [B, state_dim], normalized.
            x: Float32 [B, S, H, A].
            times: Float32 [S], or [B, S] for times of their own per sample.
            is_conditional: False for the unconditional branch.

        Returns:
            Float32 [B, S, H, A].
        """
        layout = self.layout(cache, x.shape[1])
        shift = self._shift(is_conditional=is_conditional)
        return self._suffix(cache, state, x, self.time_embeddings(times), layout, shift)

    def denoise(
        self,
        cache: PrefixCache,
        state: Tensor,
        x: Tensor,
        time_embedding: Tensor,
        layout: SuffixLayout,
        *,
        is_conditional: bool = True,
    ) -> Tensor:
        """Return the velocity of one denoise step with everything prepared once per policy step.

        Args:
            cache: Result of ``prefix``.
            state: Float [B, state_dim], normalized.
            x: Float32 [B, H, A].
            time_embedding: Float32 [W], an entry of ``time_embeddings``.
            layout: Result of ``layout(cache, 1, is_static=True)``.
            is_conditional: False for the unconditional branch.

        Returns:
            Float32 [B, H, A].
        """
        shift = self._shift(is_conditional=is_conditional)
        return self._denoise(cache, state, x[:, None], time_embedding[None], layout, shift)[:, 0]

    def compile_denoising(self) -> None:
        """Let ``denoise`` run through ``torch.compile``; one program per batch size."""
        self.is_compiled = True
        self._denoise = torch.compile(self._suffix, dynamic=False)

    def expert_parameters(self) -> list[nn.Parameter]:
        """Return the action expert and its projections."""
        return [p for name, p in self.core.named_parameters() if not name.startswith("model.vlm.")]

    def all_trainable_parameters(self) -> list[nn.Parameter]:
        """Return every parameter that can receive a gradient; unused ones do not exist here."""
        return list(self.core.parameters())

    def cast_backbone(self, dtype: torch.dtype, *, keeps_masters: bool = False) -> None:
        """Compute in ``dtype`` and store the vision-language model's matrices in it.

        Norms, patch and position embeddings stay float32, and so does the action expert: its weights
        are masters that are cast for each product.

        Args:
            dtype: Precision of attention and MLPs.
            keeps_masters: Treat the vision-language model like the expert, because it is trained: steps
                of 1e-6 vanish in bfloat16. Action chunks are the same bits.
        """
        self.compute_dtype = dtype
        if keeps_masters:
            return
        for name, parameter in self.core.model.vlm.named_parameters():
            if "norm" not in name and "vision_tower.embeddings" not in name:
                parameter.data = parameter.data.to(dtype)

    def _read(self, pixels: Tensor, token_ids: Tensor, is_valid: Tensor) -> PrefixCache:
        """Return the cache of one pass."""
        length, num_tokens = trimmed_length(is_valid), is_valid.shape[1]
        token_ids, some_valid = token_ids[:, :length], is_valid[:, :length]
        language = self.core.model.vlm.language_model
        hidden = embed_prefix(self.core, pixels, token_ids, self.compute_dtype)
        angles = rotary_angles(language.rotary_emb, some_valid.long().cumsum(-1) - 1)
        keys, values = [], []
        for layer in language.layers:
            # nothing reads the last layer's output, only its keys and values
            is_last = layer is language.layers[-1]
            step = partial(self._prefix_layer, layer, angles, some_valid, is_last=is_last)
            key, value, hidden = self._run(layer, step, hidden)
            keys.append(padded(key, num_tokens))
            values.append(padded(value, num_tokens))
        return PrefixCache(keys=tuple(keys), values=tuple(values), is_valid=is_valid)

    def _prefix_layer(
        self, layer: Any, angles: Angles, is_valid: Tensor, hidden: Tensor, *, is_last: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        normed = rms_norm(layer.input_layernorm, hidden, self.compute_dtype)
        key, value = key_value_of(layer, normed, angles)
        if not is_last:
            attended = attend(query_of(layer, normed, angles), key, value, is_valid)
            hidden = finish_layer(layer, hidden, attended)
        return key, value, hidden

    def _shift(self, *, is_conditional: bool) -> Tensor | None:
        """Return what is added to the state token, [W], or None for nothing."""
        if is_conditional:
            return None
        assert self.unconditional is not None, "the network has no unconditional branch"
        return self.unconditional

    def _suffix(
        self,
        cache: PrefixCache,
        state: Tensor,
        x: Tensor,
        time_embeddings: Tensor,
        layout: SuffixLayout,
        shift: Tensor | None,
    ) -> Tensor:
        """Return the velocity [B, S, H, A]; ``time_embeddings`` is [S, W] or [B, S, W]."""
        expert = self.core.model.dit
        hidden = embed_suffix(self.core, state, x, time_embeddings, shift)
        for number, layer in enumerate(expert.layers):
            past = cache.keys[number], cache.values[number]
            buffer = None if layout.buffers is None else layout.buffers[number]
            step = partial(self._suffix_layer, layer, past, layout, buffer)
            hidden = self._run(layer, step, hidden)
        hidden = rms_norm(expert.norm, hidden[:, 1:], torch.float32)
        return self.core.action_out_proj(hidden).unflatten(1, x.shape[1:3])

    def _suffix_layer(
        self,
        layer: Any,
        past: tuple[Tensor, Tensor],
        layout: SuffixLayout,
        buffer: tuple[Tensor, Tensor] | None,
        hidden: Tensor,
    ) -> Tensor:
        normed = rms_norm(layer.input_layernorm, hidden, self.compute_dtype)
        query = query_of(layer, normed, layout.angles)
        new = key_value_of(layer, normed, layout.angles)
        return finish_layer(layer, hidden, attend_suffix(query, new, past, layout, buffer))

    def _run(self, layer: Any, step: Callable[[Tensor], Any], hidden: Tensor) -> Any:
        if self.checkpoints_layers and torch.is_grad_enabled():
            step = partial(checkpoint, step, use_reentrant=False, preserve_rng_state=False)
        # a layer whose weights are sharded over ranks is called, so that they are gathered
        return layer(step, hidden) if "forward" in vars(layer) else step(hidden)
