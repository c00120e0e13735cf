"""How much memory a pi0 takes, from its sizes alone: nothing is loaded or allocated.

Counted are the tensors that exist at the worst moment of a scoring pass with gradients. Numbers are for one
micro-batch; c is the number of bytes per number of ``compute_dtype``.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PI0Config
from transformers.initialization import no_init_weights

from pi0.model.architecture import dit_sizes, is_pi05, vlm_sizes
from pi0.model.expert import projections
from pi0.model.lora import LoraTargets, adapted_weights
from pi0.model.network import Pi0Network

FLOAT = 4  # bytes
ADAM_MOMENTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedPart:
    """What training changes.

    Attributes:
        has_frozen_prefix: Whether the vision-language model is left as it is.
        lora_rank: Rank of adapters; 0 trains weights.
        lora_targets: Where the adapters are.
        checkpoints_layers: Whether layers are computed again in the backward pass.
    """

    has_frozen_prefix: bool = True
    lora_rank: int = 0
    lora_targets: LoraTargets = "expert"
    checkpoints_layers: bool = False

    @property
    def trains_everything(self) -> bool:
        """Return whether every weight changes."""
        return not self.lora_rank and not self.has_frozen_prefix

    @property
    def has_adapted_expert(self) -> bool:
        """Return whether adapters sit on the expert, whose weights are then stored as they are used."""
        return self.lora_rank > 0 and self.lora_targets != "vlm"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkMemory:
    """Bytes of a network in training.

    Attributes:
        weights: All weights as they are stored.
        gradients: Of what is trained, float32.
        optimizer: AdamW's two moments, float32.
        activations: What a scoring pass of one micro-batch keeps for its backward pass, cast masters among it,
            and the most it needs on the way.
        cast_expert: The action expert's matrices once more, in the precision that acting uses them in.
        prefix_per_sample: Keys and values that one sample's prefix keeps.
        reading_per_sample: The most that reading one sample's prefix needs on the way.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    cast_expert: int
    prefix_per_sample: int
    reading_per_sample: int


def predict_network(
    config: PI0Config,
    *,
    dtype: torch.dtype,
    trained: TrainedPart,
    samples: int,
    num_steps: int,
    prefix_tokens: int,
) -> NetworkMemory:
    """Return what acting, scoring and updating take.

    Args:
        config: Sizes of the network.
        dtype: ``compute_dtype``.
        trained: What training changes.
        samples: Samples of a micro-batch.
        num_steps: S, denoise steps scored together.
        prefix_tokens: L.
    """
    with torch.device("meta"), no_init_weights():
        network = Pi0Network(config)
    network.cast_backbone(dtype, keeps_masters=trained.trains_everything)
    num_trained = _num_trained(network, trained)
    size = dtype.itemsize
    leading = 0 if is_pi05(config) else 1  # pi0's state token
    suffix = _Stack.of(
        dit_sizes(config),
        size,
        tokens=leading + num_steps * config.chunk_size,
        is_gated=is_pi05(config),
    )
    num_keys = num_steps * (prefix_tokens + leading + config.chunk_size)
    num_keys += leading * (prefix_tokens + 1)
    kept, passing = suffix.kept(num_keys=num_keys, trained=trained), suffix.passing()
    text = _Stack.of(vlm_sizes(config).text_config, size, tokens=prefix_tokens)
    if not trained.has_frozen_prefix:
        kept += text.kept(num_keys=prefix_tokens, trained=trained)
        kept += _vision_bytes(config, size, prefix_tokens)
        passing = max(passing, text.passing())
    # embedding and last norm: action, time embedding and pi0's time MLP on the way in, the last norm on the way out
    kept += (3 if is_pi05(config) else 10) * suffix.tokens * suffix.width * FLOAT
    layers, head = suffix.layers, suffix.head
    return NetworkMemory(
        weights=sum(parameter.nbytes for parameter in network.parameters())
        + (num_trained * FLOAT if trained.lora_rank else 0),
        gradients=num_trained * FLOAT,
        optimizer=num_trained * FLOAT * ADAM_MOMENTS,
        activations=samples * (kept + passing) + _cast_products(network, dtype, trained),
        cast_expert=_cast_bytes(network, dtype, trained),
        prefix_per_sample=2 * layers * prefix_tokens * head * size,
        reading_per_sample=text.reading(),
    )


def _cast_bytes(network: Pi0Network, dtype: torch.dtype, trained: TrainedPart) -> int:
    if dtype == torch.float32 or trained.has_adapted_expert:
        return 0
    matrices = projections(network.core.model.dit)
    return sum(linear.weight.numel() for linear in matrices) * dtype.itemsize


def _cast_products(network: Pi0Network, dtype: torch.dtype, trained: TrainedPart) -> int:
    """Return what float32 masters take that a pass has cast for its products and keeps for its backward pass."""
    if dtype == torch.float32:
        return 0
    vlm, stacks, others = network.core.model.vlm, [], []
    if not trained.has_adapted_expert:
        stacks.append(network.core.model.dit.layers)
    if trained.trains_everything:
        stacks.append(vlm.language_model.layers)
        others = [vlm.vision_tower, vlm.multi_modal_projector]
    # a layer that is computed again casts again, and only one is at a time
    together = max if trained.checkpoints_layers else sum
    num_cast = sum(together(map(_num_matrix_weights, layers)) for layers in stacks)
    return (num_cast + sum(map(_num_matrix_weights, others))) * dtype.itemsize


def _num_matrix_weights(module: nn.Module) -> int:
    return sum(
        each.weight.numel()
        for name, each in module.named_modules()
        if type(each) is nn.Linear and "norm" not in name  # pi0.5's norms compute in float32
    )


def _num_trained(network: Pi0Network, trained: TrainedPart) -> int:
    if trained.lora_rank:
        weights = adapted_weights(network.core, trained.lora_targets)
        return trained.lora_rank * sum(sum(weight.shape) for weight in weights.values())
    parameters = (
        network.expert_parameters()
        if trained.has_frozen_prefix
        else network.all_trainable_parameters()
    )
    return sum(parameter.numel() for parameter in parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stack:
    """Layers of one Gemma and the tokens of one sample that pass through them."""

    layers: int
    width: int
    mlp: int
    heads: int
    head: int
    size: int
    tokens: int
    is_gated: bool

    @classmethod
    def of(cls, sizes: Any, size: int, tokens: int, *, is_gated: bool = False) -> "_Stack":
        return cls(
            layers=sizes.num_hidden_layers,
            width=sizes.hidden_size,
            mlp=sizes.intermediate_size,
            heads=sizes.num_attention_heads,
            head=sizes.head_dim,
            size=size,
            tokens=tokens,
            is_gated=is_gated,
        )

    def kept(self, num_keys: int, trained: TrainedPart) -> int:
        """Return what all layers keep for the backward pass."""
        one = self._one_layer(num_keys)
        if trained.checkpoints_layers:
            return self.layers * self.tokens * self.width * FLOAT + one
        return self.layers * one

    def passing(self) -> int:
        """Return what the backward pass of one MLP has on its hands besides what was kept."""
        return self.tokens * 5 * self.mlp * self.size

    def reading(self) -> int:
        """Return the most that a pass without gradients has on its hands: its stream, and one MLP.

        Stream, its update and their sum in float32; the norm's output and the attention's; the MLP's gate,
        up and their product.
        """
        per_token = 3 * self.width * FLOAT + self.size * (2 * self.width + 3 * self.mlp)
        return self.tokens * per_token

    def _one_layer(self, num_keys: int) -> int:
        attention = self.heads * self.head
        # two residual streams and their normalized copies in float32; the two norms' outputs; the query
        # as it came and by step, the attention's output by step and in token order; the MLP's gate, up
        # and their product
        per_token = 4 * self.width * FLOAT + self.size * (
            2 * self.width + 4 * attention + 3 * self.mlp
        )
        if self.is_gated:  # what attention and MLP give, before pi0.5's gates
            per_token += 2 * self.width * self.size
        log_sums = self.heads * FLOAT
        return self.tokens * (per_token + log_sums) + 2 * num_keys * self.head * self.size


def _vision_bytes(config: PI0Config, size: int, tokens: int) -> int:
    sizes = vlm_sizes(config).vision_config
    per_token = 2 * sizes.hidden_size * FLOAT + size * (
        7 * sizes.hidden_size + 2 * sizes.intermediate_size
    )
    return sizes.num_hidden_layers * tokens * per_token
