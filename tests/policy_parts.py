"""A small pi0 with every awkward property of the real one: two cameras, padding, extra actions."""

from typing import Any

import numpy as np
import torch
from transformers import PI0Config

from pi0.card import PolicyCard
from pi0.checkpoint import new_policy
from pi0.model.gemma import AdaptiveNorm
from pi0.model.network import Pi0Network
from pi0.norm_stats import NormStats
from pi0.policy import Pi0Policy
from pi0.records import Observation
from pi0.tokenizer import build_tiny_tokenizer

TASKS = ("open the drawer", "put the bowl on the plate", "open", "put the wine bottle on the rack")
WORDS = "open the drawer put bowl on plate wine bottle"
IMAGE_TOKEN = 4
SIZE = 28  # two by two patches of 14 pixels


def small_card(**changes: Any) -> PolicyCard:
    values: dict[str, Any] = {
        "layout": "native",
        "protocol": "openpi",
        "horizon": 6,
        "execute_steps": 4,
        "action_dim": 9,
        "state_dim": 12,
        "cameras": ("agentview", "robot0_eye_in_hand"),
        "render_size": SIZE,
        "image_size": SIZE,
        "render_quality": "exact",
        "rotate_180": True,
        "resize": "openpi",
        "state_encoding": "axis_angle",
        "extra_delta": True,
        "gripper": "libero",
        "norm_mode": "z_score",
        "norm_formula": "openpi",
        "norm_stats_of": "checkpoint",
        "prompt_format": "openpi",
        "prompt_state": "none",
        "max_prompt_tokens": 24,
        "denoise_steps": 4,
        "dtype": "float32",
    }
    return PolicyCard(**(values | changes))


def small_stats() -> NormStats:
    """Statistics that are all different, so that a swapped axis or a wrong slice shows."""
    return NormStats(
        state={
            "mean": np.linspace(-0.4, 0.3, 8),
            "std": np.linspace(0.5, 1.2, 8),
            "q01": np.linspace(-1.4, -0.7, 8),
            "q99": np.linspace(0.6, 1.3, 8),
        },
        actions={
            "mean": np.linspace(-0.1, 0.2, 7),
            "std": np.linspace(0.3, 0.9, 7),
            "q01": np.linspace(-0.9, -0.6, 7),
            "q99": np.linspace(0.5, 0.8, 7),
        },
    )


def small_config(card: PolicyCard, vocab_size: int = 300, *, is_pi05: bool = False) -> PI0Config:
    gemma = {
        "model_type": "gemma",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "vocab_size": vocab_size,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": card.image_size,
        "patch_size": 14,
        "vision_use_head": False,
    }
    return PI0Config(
        vlm_config={
            "model_type": "paligemma",
            "text_config": gemma,
            "vision_config": vision,
            "projection_dim": 32,
            "image_token_index": IMAGE_TOKEN,
        },
        dit_config=gemma | {"hidden_size": 24},
        chunk_size=card.horizon,
        max_state_dim=card.state_dim,
        max_action_dim=card.action_dim,
        **({"pi05": True} if is_pi05 else {}),
    )


def small_policy(
    batch_size: int = 4, seed: int = 0, *, is_pi05: bool = False, **changes: Any
) -> Pi0Policy:
    card = small_card(**changes)
    policy = new_policy(
        config=small_config(card, is_pi05=is_pi05),
        card=card,
        stats=small_stats(),
        tokenizer=build_tiny_tokenizer(WORDS.split()),
        seed=seed,
        batch_size=batch_size,
    )
    if is_pi05:
        open_gates(policy.network, seed)
    return policy


def open_gates(network: Pi0Network, seed: int = 0) -> None:
    """A new pi0.5 has gates of zero, which would hide attention and MLP of its expert."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, AdaptiveNorm):
                for parameter in module.parameters():
                    parameter.normal_(std=0.3, generator=generator)


def make_observation(
    rng: np.random.Generator, num_cameras: int = 2, size: int = SIZE
) -> Observation:
    quaternion = rng.normal(size=4)
    pose = [rng.normal(size=3), quaternion / np.linalg.norm(quaternion), rng.normal(size=2)]
    images = rng.integers(0, 256, (num_cameras, size, size, 3), dtype=np.uint8)
    return Observation(images=images, proprio=np.concatenate(pose))


def make_observations(count: int, seed: int = 0) -> list[Observation]:
    rng = np.random.default_rng(seed)
    return [make_observation(rng) for _ in range(count)]


def raises_one_line(error: BaseException, *parts: str) -> bool:
    """Return whether the message is a single line that names every part."""
    message = str(error)
    return "\n" not in message and all(part in message for part in parts)
