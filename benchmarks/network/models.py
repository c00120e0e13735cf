"""Random pi0 networks of three sizes, and inputs for them.

``middle`` is pi0 with every width divided by four; depths, heads, token counts, horizon and the ratio of
expert to language model are pi0's own. ``full`` is pi0.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PI0Config, PI0ForConditionalGeneration

from pi0.model.architecture import unused_tensor_names, vlm_sizes
from pi0.model.network import Pi0Network

Size = Literal["tiny", "middle", "full"]
NUM_CAMERAS = 2
MAX_PROMPT_TOKENS = 48
HORIZON = 50
_VOCABULARY = {"tiny": 1000, "middle": 1000, "full": 257152}
_WIDTHS = {  # text width and MLP, expert width and MLP, vision width and MLP, head width
    "tiny": (160, 512, 160, 512, 160, 512, 32),
    "middle": (512, 4096, 256, 1024, 288, 1076, 64),
    "full": (2048, 16384, 1024, 4096, 1152, 4304, 256),
}
_DEPTHS = {"tiny": (4, 3), "middle": (18, 27), "full": (18, 27)}
_HEADS = {"tiny": (4, 4), "middle": (8, 4), "full": (8, 16)}
_IMAGES = {"tiny": (96, 16), "middle": (224, 14), "full": (224, 14)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Observations:
    """B encoded observations and what sampling starts from.

    Attributes:
        pixels: Float32 [B, N, 3, size, size].
        token_ids: Int64 [B, L].
        is_valid: Bool [B, L]; prompts of different lengths, padded at the end.
        state: Float32 [B, 32].
        noise: Float32 [B, H, 32].
    """

    pixels: Tensor
    token_ids: Tensor
    is_valid: Tensor
    state: Tensor
    noise: Tensor

    def to(self, device: torch.device) -> "Observations":
        """Return the observations on a device."""
        return Observations(
            pixels=self.pixels.to(device),
            token_ids=self.token_ids.to(device),
            is_valid=self.is_valid.to(device),
            state=self.state.to(device),
            noise=self.noise.to(device),
        )

    def with_masked_camera(self) -> tuple["Observations", Tensor]:
        """Return the observations with a third, masked camera, as pi0 is served with, and bool [B, N + 1]."""
        samples, cameras, *_ = self.pixels.shape
        per_camera = (self.token_ids[0] == self.token_ids[0, 0]).sum().item() // cameras
        at = per_camera * cameras
        extra = self.token_ids[:, :per_camera]
        observations = Observations(
            pixels=torch.cat([self.pixels, torch.full_like(self.pixels[:, :1], -1.0)], 1),
            token_ids=torch.cat([self.token_ids[:, :at], extra, self.token_ids[:, at:]], 1),
            is_valid=torch.cat(
                [self.is_valid[:, :at], torch.zeros_like(extra).bool(), self.is_valid[:, at:]], 1
            ),
            state=self.state,
            noise=self.noise,
        )
        is_real = torch.tensor([True] * cameras + [False], device=self.state.device)
        return observations, is_real.expand(samples, -1)


def model_config(size: Size) -> PI0Config:
    """Return transformers' configuration of a size."""
    text, text_mlp, expert, expert_mlp, vision, vision_mlp, head = _WIDTHS[size]
    layers, vision_layers = _DEPTHS[size]
    heads, vision_heads = _HEADS[size]
    image, patch = _IMAGES[size]
    gemma: dict[str, Any] = {
        "model_type": "gemma",
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 1,
        "head_dim": head,
        "vocab_size": _VOCABULARY[size],
    }
    siglip = {
        "model_type": "siglip_vision_model",
        "hidden_size": vision,
        "intermediate_size": vision_mlp,
        "num_hidden_layers": vision_layers,
        "num_attention_heads": vision_heads,
        "image_size": image,
        "patch_size": patch,
        "vision_use_head": False,
    }
    return PI0Config(
        vlm_config={
            "model_type": "paligemma",
            "text_config": gemma | {"hidden_size": text, "intermediate_size": text_mlp},
            "vision_config": siglip,
            "projection_dim": text,
            "image_token_index": _VOCABULARY[size],
        },
        dit_config=gemma | {"hidden_size": expert, "intermediate_size": expert_mlp},
        chunk_size=HORIZON,
        max_state_dim=32,
        max_action_dim=32,
    )


def reference_model(size: Size, seed: int = 0) -> PI0ForConditionalGeneration:
    """Return transformers' own model with random weights, in float32 on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PI0ForConditionalGeneration(model_config(size)).eval()
        # transformers starts norms at exactly 1 and biases at 0, which would hide mistakes
        for parameter in model.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
    return model


def our_network(reference: PI0ForConditionalGeneration, size: Size) -> Pi0Network:
    """Return our network around the very same weights."""
    network = Pi0Network(model_config(size))
    unused = unused_tensor_names(network.config)
    kept = {name: tensor for name, tensor in reference.state_dict().items() if name not in unused}
    network.core.load_state_dict(kept, strict=True, assign=True)
    return network


def make_observations(config: PI0Config, samples: int, seed: int = 0) -> Observations:
    """Return observations of two cameras with prompts of 8 to 23 tokens, padded to 48."""
    generator = torch.Generator().manual_seed(seed)
    vision = vlm_sizes(config).vision_config
    num_images = NUM_CAMERAS * (vision.image_size // vision.patch_size) ** 2
    length = num_images + MAX_PROMPT_TOKENS
    prompts = torch.randint(8, 24, (samples, 1), generator=generator)
    is_valid = torch.arange(length) < num_images + prompts
    token_ids = torch.randint(5, 900, (samples, length), generator=generator) * is_valid
    token_ids[:, :num_images] = vlm_sizes(config).image_token_id
    size = (samples, NUM_CAMERAS, 3, vision.image_size, vision.image_size)
    return Observations(
        pixels=torch.rand(size, generator=generator) * 2 - 1,
        token_ids=token_ids,
        is_valid=is_valid,
        state=torch.randn(samples, config.max_state_dim, generator=generator),
        noise=torch.randn(samples, config.chunk_size, config.max_action_dim, generator=generator),
    )
