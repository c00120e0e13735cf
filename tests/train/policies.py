"""An untrained pi0 of the smallest size that has every part, and batches it drew itself."""

from dataclasses import replace

import numpy as np
import torch
from transformers import PI0Config

from pi0.checkpoint import new_policy
from pi0.codec import NormStats
from pi0.config import PolicyCard
from pi0.policy import Pi0Policy
from pi0.records import Observation, Sampling
from pi0.ript.types import Batch
from pi0.tiny import tiny_card
from pi0.tokenizer import build_tiny_tokenizer

TASKS = ("open the drawer", "push the plate to the stove")
SAMPLING = Sampling(num_steps=4, noise_scale=0.5)


def make_config(card: PolicyCard, vocab_size: int, image_token_id: int) -> PI0Config:
    shared = {"intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    gemma = shared | {
        "model_type": "gemma",
        "hidden_size": 32,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "vocab_size": vocab_size,
    }
    vision = shared | {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "image_size": card.image_size,
        "patch_size": 16,
        "vision_use_head": False,
    }
    return PI0Config(
        vlm_config={
            "model_type": "paligemma",
            "text_config": gemma,
            "vision_config": vision,
            "projection_dim": 32,
            "image_token_index": image_token_id,
        },
        dit_config=gemma,
        chunk_size=card.horizon,
        max_state_dim=card.state_dim,
        max_action_dim=card.action_dim,
        num_inference_steps=card.denoise_steps,
    )


def padded_card() -> PolicyCard:
    """Return a card with 9 action dims of which 7 are real and 10 actions of which 5 are executed."""
    return replace(tiny_card(image_size=32), action_dim=9, execute_steps=5)


def make_policy(seed: int = 0, card: PolicyCard | None = None) -> Pi0Policy:
    card = card or tiny_card(image_size=32)
    tokenizer = build_tiny_tokenizer(TASKS)
    config = make_config(card, tokenizer.get_vocab_size(), tokenizer.token_to_id("<image>"))
    stats = NormStats(
        state_mean=np.zeros(card.state_width),
        state_std=np.ones(card.state_width),
        actions_mean=np.zeros(7),
        actions_std=np.ones(7),
    )
    return new_policy(config=config, card=card, stats=stats, tokenizer=tokenizer, seed=seed)


def look(rng: np.random.Generator, size: int = 32) -> Observation:
    rotation = rng.normal(size=4)
    return Observation(
        images=rng.integers(0, 256, (1, size, size, 3), dtype=np.uint8),
        proprio=np.concatenate(
            [rng.normal(size=3), rotation / np.linalg.norm(rotation), rng.normal(size=2)]
        ),
    )


def draw_batch(policy: Pi0Policy, rows: int, seed: int = 0) -> Batch:
    """Return rows that the policy drew itself, with random advantages and weights."""
    rng = np.random.default_rng(seed)
    looks = [look(rng) for _ in range(rows)]
    tasks = [TASKS[row % 2] for row in range(rows)]
    chunks = policy.act(looks, tasks, list(range(rows)), SAMPLING)
    weights = rng.uniform(0.5, 1.5, rows)
    return Batch(
        observations=tuple(looks),
        tasks=tuple(tasks),
        chains=np.stack([chunk.chain for chunk in chunks]),
        advantages=rng.choice([-0.5, 1.0], rows).astype(np.float32),
        weights=(weights / weights.sum()).astype(np.float32),
    )


def weights_of(policy: Pi0Policy) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in policy.network.named_parameters()}


def are_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
