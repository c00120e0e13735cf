"""Sizes of the embedded tiny pi0, or a tiny pi0.5: the real architecture, small enough for two CPU cores."""

from typing import Literal

from transformers import PI0Config

from pi0.card import PolicyCard
from pi0.model.architecture import PI05_KEY

Architecture = Literal["pi0", "pi05"]

WIDTH = 160
MLP_WIDTH = 512
NUM_LAYERS = 4
NUM_VISION_LAYERS = 3
NUM_HEADS = 4
HEAD_DIM = 32
PATCH_SIZE = 16
PROMPT_TOKENS = 16


def tiny_card(
    *,
    cameras: tuple[str, ...] = ("agentview",),
    image_size: int = 96,
    max_prompt_tokens: int = PROMPT_TOKENS,
) -> PolicyCard:
    """Return the card of the tiny policy: no padding, continuous rotation, fast rendering."""
    return PolicyCard(
        layout="native",
        protocol="openpi",
        horizon=10,
        execute_steps=10,
        action_dim=7,
        state_dim=11,
        cameras=cameras,
        render_size=image_size,
        image_size=image_size,
        render_quality="fast",
        rotate_180=True,
        resize="openpi",
        state_encoding="rotation6d",
        extra_delta=False,
        gripper="libero",
        norm_mode="z_score",
        norm_formula="openpi",
        norm_stats_of="data",
        prompt_format="openpi",
        prompt_state="none",
        max_prompt_tokens=max_prompt_tokens,
        denoise_steps=4,
        dtype="float32",
    )


def tiny_pi0_config(
    card: PolicyCard, *, vocab_size: int, image_token_id: int, architecture: Architecture = "pi0"
) -> PI0Config:
    """Return transformers' configuration of the tiny policy, about 3 million parameters."""
    gemma = {
        "model_type": "gemma",
        "hidden_size": WIDTH,
        "intermediate_size": MLP_WIDTH,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": NUM_HEADS,
        "num_key_value_heads": 1,
        "head_dim": HEAD_DIM,
        "vocab_size": vocab_size,
        "max_position_embeddings": 1024,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": WIDTH,
        "intermediate_size": MLP_WIDTH,
        "num_hidden_layers": NUM_VISION_LAYERS,
        "num_attention_heads": NUM_HEADS,
        "image_size": card.image_size,
        "patch_size": PATCH_SIZE,
        "vision_use_head": False,
    }
    config = PI0Config(
        vlm_config={
            "model_type": "paligemma",
            "text_config": gemma,
            "vision_config": vision,
            "projection_dim": WIDTH,
            "image_token_index": image_token_id,
        },
        dit_config=gemma,
        chunk_size=card.horizon,
        max_state_dim=card.state_dim,
        max_action_dim=card.action_dim,
        num_inference_steps=card.denoise_steps,
    )
    if architecture == "pi05":
        setattr(config, PI05_KEY, True)
    return config
