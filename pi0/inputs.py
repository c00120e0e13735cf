"""The network's input tensors, and how observations and instructions become them.

Shape legend: B samples, N cameras, L prefix tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pi0.codec import Codec
from pi0.records import Observation
from pi0.tokenizer import PromptTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """B encoded observations.

    Attributes:
        images: uint8 or float32 [B, N, size, size, 3], upright RGB in [0, 255].
        token_ids: int64 [B, L].
        is_valid: bool [B, L].
        state: float32 [B, state_dim], normalized.
    """

    images: Tensor
    token_ids: Tensor
    is_valid: Tensor
    state: Tensor

    def __len__(self) -> int:
        return len(self.state)

    @property
    def pixels(self) -> Tensor:
        """Return the images as the network takes them, float32 [B, N, 3, size, size] in [-1, 1]."""
        return self.images.permute(0, 1, 4, 2, 3).float() / 255.0 * 2.0 - 1.0

    def select(self, index: Tensor | slice) -> "Inputs":
        """Return chosen samples; ``index`` int64 [b], or a slice."""
        return Inputs(
            images=self.images[index],
            token_ids=self.token_ids[index],
            is_valid=self.is_valid[index],
            state=self.state[index],
        )

    def to(self, device: torch.device) -> "Inputs":
        """Return the inputs on a device; see ``on_device``."""
        return Inputs(
            images=on_device(self.images, device),
            token_ids=on_device(self.token_ids, device),
            is_valid=on_device(self.is_valid, device),
            state=on_device(self.state, device),
        )


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; from the host to a GPU through pinned memory, without waiting for the copy."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def padded_size(num_samples: int, batch_size: int, device: torch.device) -> int:
    """Return how many samples a network call has that answers ``num_samples``.

    A CPU always gets ``batch_size``: calls of 1, 2 or 3 samples round differently from one of 4, by 1e-6. A GPU
    gets the next power of two, so that a lone sample does not pay for a whole batch; its answers depend on
    the size of the call by rounding, so where torch is asked to be deterministic it gets ``batch_size``, too.
    """
    if device.type == "cpu" or torch.are_deterministic_algorithms_enabled():
        return batch_size
    return min(batch_size, 1 << (num_samples - 1).bit_length())


def repeated_first(num_samples: int, missing: int) -> Tensor:
    """Return the index of all samples and then of the first again, int64 [num_samples + missing]."""
    return torch.cat([torch.arange(num_samples), torch.zeros(missing, dtype=torch.int64)])


def encode_inputs(
    codec: Codec,
    prompts: PromptTokenizer,
    observations: Sequence[Observation],
    tasks: Sequence[str],
) -> Inputs:
    """Return the tensors of B observations, on the CPU."""
    state = codec.encode_state(proprio_of(observations))
    token_ids, is_valid = prompts.encode(tasks, state)
    return Inputs(
        images=torch.from_numpy(codec.encode_images(observations)),
        token_ids=torch.from_numpy(token_ids),
        is_valid=torch.from_numpy(is_valid),
        state=torch.from_numpy(state),
    )


def proprio_of(observations: Sequence[Observation]) -> NDArray[np.float64]:
    """Return the proprioception of B observations, float64 [B, 9]."""
    return np.stack([observation.proprio for observation in observations])
