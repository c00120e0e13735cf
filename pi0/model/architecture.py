"""Which of transformers' PI0 modules and sizes the network uses, and what pi0.5 has in their place."""

from copy import deepcopy
from typing import Any

from torch import nn
from transformers import PI0Config, PI0ForConditionalGeneration

from pi0.model.gemma import AdaptiveNorm
from pi0.model.suffix import Pi05Embedding

PI05_KEY = "pi05"  # transformers' configuration keeps a key that it does not know
ACTIVATION = "gelu_pytorch_tanh"


def vlm_sizes(config: PI0Config) -> Any:
    """Return the PaliGemma part; transformers types it too loosely to read its fields."""
    return config.vlm_config


def dit_sizes(config: PI0Config) -> Any:
    """Return the action expert's part."""
    return config.dit_config


def is_pi05(config: PI0Config) -> bool:
    """Return whether the sizes are those of a pi0.5."""
    return ({PI05_KEY: False} | config.to_dict())[PI05_KEY] is True


def build_core(config: PI0Config) -> Any:
    """Return the module tree without its unused parts, with transformers' random initialization."""
    config = deepcopy(config)
    # the expert's word embedding is never used: 263 million parameters in the real pi0
    dit_sizes(config).vocab_size = 1
    core = build_whole_core(config)
    drop_unused_modules(core)
    return core


def build_whole_core(config: PI0Config) -> Any:
    """Return the module tree as transformers has it, in a pi0.5 with its own norms and projections."""
    core: Any = PI0ForConditionalGeneration(config)
    if is_pi05(config):
        _make_pi05(core, config)
    return core


def _make_pi05(core: Any, config: PI0Config) -> None:
    width, eps = dit_sizes(config).hidden_size, dit_sizes(config).rms_norm_eps
    expert = core.model.dit
    for layer in expert.layers:
        layer.input_layernorm = AdaptiveNorm(width, eps)
        layer.post_attention_layernorm = AdaptiveNorm(width, eps)
    expert.norm = AdaptiveNorm(width, eps)
    core.embed_action_time = Pi05Embedding(
        core.embed_action_time.sinusoid_embeds, action_dim=config.max_action_dim, width=width
    )


def unused_tensor_names(config: PI0Config) -> frozenset[str]:
    """Return names that transformers' PI0 has but no forward pass ever uses."""
    last = f"model.vlm.language_model.layers.{vlm_sizes(config).text_config.num_hidden_layers - 1}"
    inner = ("self_attn.q_proj", "self_attn.o_proj", "post_attention_layernorm")
    inner += ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    unused = {f"{last}.{name}.weight" for name in inner}
    return frozenset(
        unused | {"model.dit.embed_tokens.weight", "model.vlm.language_model.norm.weight"}
    )


def drop_unused_modules(core: Any) -> None:
    """Remove, in place, what no forward pass ever uses."""
    model = core.model
    model.dit.embed_tokens = nn.Identity()
    model.vlm.language_model.norm = nn.Identity()
    last = model.vlm.language_model.layers[-1]
    last.post_attention_layernorm = last.mlp = nn.Identity()
    last.self_attn.q_proj = last.self_attn.o_proj = nn.Identity()


def check_sizes(config: PI0Config) -> None:
    """Refuse sizes that the network cannot have.

    Raises:
        ValueError: One line that names the size.
    """
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
