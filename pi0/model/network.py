"""The network of pi0 and pi0.5: transformers' PI0 modules and weights behind ``prefix`` and ``velocity``.

Prefix tokens (images, prompt) never attend to the suffix (pi0's state, noisy actions), so their keys
and values are computed once per observation and reused by every denoise step. All denoise steps of an
action chunk can be packed into one suffix: [state | step 0 | step 1 | ...]. The state attends to the prefix and
itself; the actions of a step attend to prefix, state and their own step. pi0.5 has no state token, see
``pi0.model.suffix``.

Precision: residual streams, norms, rotary angles, projections of state, time and actions are float32;
attention and MLPs run in ``compute_dtype``.

Shape legend: B samples, N cameras, L prefix tokens, S denoise steps, H actions per chunk, A action dims,
W expert width.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PI0Config

from pi0.model.architecture import build_core, check_sizes, dit_sizes, is_pi05, vlm_sizes
from pi0.model.cache import PrefixCache
from pi0.model.denoise_graphs import DenoiseGraphs
from pi0.model.expert import CastExpert, run_expert
from pi0.model.fast_path import Denoising
from pi0.model.layout import SuffixLayout, make_layout
from pi0.model.prefix import read_prefix
from pi0.model.suffix import Pi0Suffix, Pi05Suffix, Suffix, TimeCondition, TimeGrids, make_grid


class Pi0Network(nn.Module):
    """Owns the weights; ``core`` is transformers' module tree without its unused parts.

    Attributes:
        compute_dtype: Precision of attention and MLPs.
        unconditional: Float32 [W], what the unconditional branch of classifier-free guidance adds to
            pi0's state token or pi0.5's time condition; None where there is no such branch.
        checkpoints_layers: Whether a backward pass computes every layer again instead of keeping what
            it computed on the way.
        denoising: How ``denoise`` runs, see ``set_denoising``.
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
        self.denoising: Denoising = "plain"
        self.unconditional: nn.Parameter | None = None
        self.core: Any = build_core(config)
        self._parts: Suffix = Pi05Suffix() if is_pi05(config) else Pi0Suffix()
        self._grids = TimeGrids()
        self._cast_expert = CastExpert()
        self._denoise: Callable[..., Tensor] = self._suffix
        self.eval()

    @property
    def feature_width(self) -> int:
        """Return W, the width of ``features``."""
        return dit_sizes(self.config).hidden_size

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
        return read_prefix(
            self.core,
            pixels,
            token_ids,
            is_valid,
            self.compute_dtype,
            is_checkpointed=self.checkpoints_layers,
        )

    def layout(
        self, cache: PrefixCache, num_steps: int, *, is_static: bool = False
    ) -> SuffixLayout:
        """Return masks, rotary angles and, where static, key-value buffers and cast weights of S packed steps.

        Args:
            cache: Result of ``prefix``.
            num_steps: S.
            is_static: Let every ``denoise`` write its keys and values into the same buffers; for one
                step and without gradients only.
        """
        return make_layout(
            cache,
            num_steps,
            horizon=self.config.chunk_size,
            num_leading=self._parts.num_leading,
            expert=self._acting_expert() if is_static else self.core.model.dit,
            dtype=self.compute_dtype,
            has_buffers=is_static,
        )

    def time_grid(
        self, times: tuple[float, ...], *, is_conditional: bool = True
    ) -> tuple[TimeCondition, ...]:
        """Return what each time of a denoise grid contributes; computed once per state of the weights.

        Args:
            times: From 1, noise, towards 0, action.
            is_conditional: False for the unconditional branch.
        """
        unconditional = self._unconditional(is_conditional=is_conditional)
        make = partial(make_grid, self.core, self._parts, times, unconditional, self._device)
        if self._is_sharded:  # gathering writes into weights without torch's counting it
            return make()
        key = (times, is_conditional, self._device, self.unconditional)
        return self._grids.get(self.core, key, make)

    def add_unconditional(self) -> nn.Parameter:
        """Give the network an unconditional branch that begins equal to the network itself."""
        self.unconditional = nn.Parameter(torch.zeros(self.feature_width, device=self._device))
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
        unconditional = self._unconditional(is_conditional=is_conditional)
        condition = self._parts.condition(self.core, times, unconditional)
        return self._suffix(cache, state, x, condition, layout)

    def features(self, cache: PrefixCache, state: Tensor) -> Tensor:
        """Return what the expert makes of observations before any noise is drawn.

        Its last hidden states at time 1, of an action chunk of zeros (the mean of noise); averaged over the action tokens.

        Args:
            cache: Result of ``prefix``.
            state: Float [B, state_dim], normalized.

        Returns:
            Float32 [B, W].
        """
        shape = (len(state), 1, self.config.chunk_size, self.config.max_action_dim)
        x = torch.zeros(shape, device=self._device)
        condition = self._parts.condition(self.core, x.new_ones(1), None)
        return self._hidden(cache, state, x, condition, self.layout(cache, 1)).mean(dim=1)

    def denoise(
        self,
        cache: PrefixCache,
        state: Tensor,
        x: Tensor,
        condition: TimeCondition,
        layout: SuffixLayout,
    ) -> Tensor:
        """Return the velocity of one denoise step with everything prepared once per policy step.

        Args:
            cache: Result of ``prefix``.
            state: Float [B, state_dim], normalized.
            x: Float32 [B, H, A].
            condition: An entry of ``time_grid``.
            layout: Result of ``layout(cache, 1, is_static=True)``.

        Returns:
            Float32 [B, H, A].
        """
        return self._denoise(cache, state, x[:, None], condition, layout)[:, 0]

    def set_denoising(self, way: Denoising) -> None:
        """Let ``denoise`` run as it is written, through ``torch.compile``, or as CUDA graphs.

        The fast ways have one program, or graph, per size of a call, and keep to the weights they were made from.
        """
        self.denoising, self._denoise = way, self._suffix
        if way == "compiled":
            self._denoise = torch.compile(self._suffix, dynamic=False)
        elif way == "graphs":
            self._denoise = DenoiseGraphs(self._suffix)

    @contextmanager
    def plain_denoising(self) -> Iterator[None]:
        """Let ``denoise`` run as it is written, inside the block."""
        fast, self._denoise = self._denoise, self._suffix
        try:
            yield
        finally:
            self._denoise = fast

    def expert_parameters(self) -> list[nn.Parameter]:
        """Return the action expert and its projections."""
        return [p for name, p in self.core.named_parameters() if not name.startswith("model.vlm.")]

    def all_trainable_parameters(self) -> list[nn.Parameter]:
        """Return every parameter that can receive a gradient; unused ones do not exist here."""
        return list(self.core.parameters())

    def cast_backbone(self, dtype: torch.dtype, *, keeps_masters: bool = False) -> None:
        """Compute in ``dtype`` and store the vision-language model's matrices in it.

        Norms, patch and position embeddings stay float32, and so does the action expert: its weights
        are masters, cast once per state of the weights for acting and for each product in learning.

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

    @property
    def _device(self) -> torch.device:
        return self.core.action_out_proj.weight.device

    @property
    def _is_sharded(self) -> bool:
        return any("forward" in vars(layer) for layer in self.core.model.dit.layers)

    def _acting_expert(self) -> Any:
        """Return the expert with matrices in ``compute_dtype``; layers of sharded weights gather their own."""
        expert = self.core.model.dit
        return expert if self._is_sharded else self._cast_expert.get(expert, self.compute_dtype)

    def _unconditional(self, *, is_conditional: bool) -> Tensor | None:
        """Return what the branch adds, [W], or None for nothing."""
        if is_conditional:
            return None
        assert self.unconditional is not None, "the network has no unconditional branch"
        return self.unconditional

    def _suffix(
        self,
        cache: PrefixCache,
        state: Tensor,
        x: Tensor,
        condition: TimeCondition,
        layout: SuffixLayout,
    ) -> Tensor:
        """Return the velocity [B, S, H, A]."""
        hidden = self._hidden(cache, state, x, condition, layout)
        return self.core.action_out_proj(hidden).unflatten(1, x.shape[1:3])

    def _hidden(
        self,
        cache: PrefixCache,
        state: Tensor,
        x: Tensor,
        condition: TimeCondition,
        layout: SuffixLayout,
    ) -> Tensor:
        """Return the expert's last hidden states of the action tokens, float32 [B, S * H, W]."""
        tokens = self._parts.tokens(self.core, state, x, condition)
        return run_expert(
            tokens,
            cache,
            condition,
            layout,
            self.compute_dtype,
            is_checkpointed=self.checkpoints_layers,
        )
