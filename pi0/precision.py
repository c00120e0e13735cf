"""In which precision a network computes on a device, and the one line that says so."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from pi0.card import PolicyCard

logger = logging.getLogger(__name__)


def card_on(device: torch.device | str, card: PolicyCard, *, is_given: bool) -> PolicyCard:
    """Return the card with the precision that a device computes in; what differs on a GPU is announced.

    Args:
        device: Where the network runs.
        card: As the checkpoint and its reader have it.
        is_given: Whether the precision was asked for, or written down by this project; else it is how the
            weights happen to be stored.

    Raises:
        ValueError: The GPU cannot compute in it.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return card
    chosen, reason = choose_on_gpu(card, is_given=is_given, has_bfloat16=computes_bfloat16())
    logger.info("precision on the GPU: %s", reason)
    return chosen


def computes_bfloat16() -> bool:
    """Return whether the GPU here computes in bfloat16."""
    return torch.cuda.is_bf16_supported(including_emulation=False)


def is_precision_given(layout: str, overrides: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint's precision was asked for, or written down by this project."""
    return layout == "native" or "dtype" in overrides


def choose_on_gpu(
    card: PolicyCard, *, is_given: bool, has_bfloat16: bool
) -> tuple[PolicyCard, str]:
    """Return the card as a GPU computes and why; see ``card_on``."""
    if card.dtype == "bfloat16":
        if has_bfloat16:
            return card, "bfloat16"
        raise ValueError(
            "the policy is bfloat16, which this GPU does not compute (compute capability below 8.0); type "
            "--policy.overrides.dtype float32, or --policy.device cpu"
        )
    if is_given or not has_bfloat16:
        return card, (
            "float32 without TF32, under which scoring has not been compared with acting; "
            "bfloat16 by --policy.overrides.dtype bfloat16"
        )
    return replace(card, dtype="bfloat16"), (
        "bfloat16, although the weights are stored in float32; "
        "--policy.overrides.dtype float32 computes in full precision"
    )
