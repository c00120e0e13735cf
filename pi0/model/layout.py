"""Where suffix tokens stand behind the prefix, and what they attend to.

Shape legend: B samples, L prefix tokens, S denoise steps, H actions per chunk, n leading tokens (pi0's
state; pi0.5 has none), T = n + S * H suffix tokens, D head width.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from pi0.model.cache import PrefixCache
from pi0.model.gemma import Angles, additive_mask, attend, rotary_angles


@dataclass(frozen=True, slots=True, weakref_slot=True, kw_only=True)
class SuffixLayout:
    """Where S packed steps stand behind one cache and what they attend to; the same for every pass.

    Attributes:
        num_steps: S.
        num_leading: n.
        angles: Rotary angles of the T suffix tokens.
        expert: The expert's modules; their matrices are cast beforehand where buffers are given.
        mask: [B * S, L + n + H], see ``additive_mask``: a step attends to prefix, leading tokens, its own actions.
        mask_of_leading: [B, L + n].
        buffers: Per layer keys and values [B, L + n + H, D] that hold the prefix already and are
            overwritten behind it by every pass; None where gradients need each pass's own tensors.
    """

    num_steps: int
    num_leading: int
    angles: Angles
    expert: Any
    mask: Tensor
    mask_of_leading: Tensor
    buffers: tuple[tuple[Tensor, Tensor], ...] | None


def make_layout(
    cache: PrefixCache,
    num_steps: int,
    *,
    horizon: int,
    num_leading: int,
    expert: Any,
    dtype: torch.dtype,
    has_buffers: bool,
) -> SuffixLayout:
    """Return where S packed steps stand behind a cache.

    Args:
        cache: Of B samples.
        num_steps: S; 1 with buffers.
        horizon: H.
        num_leading: n.
        expert: The expert's modules.
        dtype: Precision of attention.
        has_buffers: Whether every pass writes its keys and values into the same buffers.
    """
    assert not has_buffers or num_steps == 1, "buffers hold one step"
    mask, mask_of_leading = _masks(cache.is_valid, num_steps, horizon, num_leading, dtype)
    positions = _positions(cache.is_valid, num_steps, horizon, num_leading)
    return SuffixLayout(
        num_steps=num_steps,
        num_leading=num_leading,
        angles=rotary_angles(expert.rotary_emb, positions),
        expert=expert,
        mask=mask,
        mask_of_leading=mask_of_leading,
        buffers=_buffers(cache, num_leading + horizon) if has_buffers else None,
    )


def attend_suffix(
    query: Tensor, new: tuple[Tensor, Tensor], past: tuple[Tensor, Tensor], layout: SuffixLayout,
    buffer: tuple[Tensor, Tensor] | None,
) -> Tensor:  # fmt: skip
    """Let leading tokens and steps attend to what is visible to them.

    Every step attends on its own: packing S steps costs S times the attention of one, not S squared.

    Args:
        query: Float [B, T, heads, D].
        new: Keys and values of the suffix, each [B, T, D].
        past: Keys and values of the prefix, each [B, L, D].
        layout: Of B samples and S steps.
        buffer: The layer's buffers of the layout, or None.

    Returns:
        Float [B, T, heads * D].
    """
    num_samples, num_past = len(query), past[0].shape[1]
    num_steps, num_leading = layout.num_steps, layout.num_leading
    if buffer is None:
        shared = [
            torch.cat([old, some[:, :num_leading]], 1) if num_leading else old
            for old, some in zip(past, new, strict=True)
        ]
        to_steps = [
            _per_step(old, some[:, num_leading:], num_steps)
            for old, some in zip(shared, new, strict=True)
        ]
    else:
        for whole, some in zip(buffer, new, strict=True):
            whole[:, num_past:] = some
        to_steps = list(buffer)
        shared = [whole[:, : num_past + num_leading] for whole in buffer]
    steps = query[:, num_leading:].unflatten(1, (num_steps, -1)).flatten(0, 1)
    output = attend(steps, to_steps[0], to_steps[1], layout.mask)
    output = output.unflatten(0, (num_samples, -1)).flatten(1, 2)
    if not num_leading:
        return output
    leading = query[:, :num_leading]
    return torch.cat([attend(leading, shared[0], shared[1], layout.mask_of_leading), output], dim=1)


def _masks(
    is_valid: Tensor, num_steps: int, horizon: int, num_leading: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the masks of steps, [B * S, L + n + H], and of leading tokens, [B, L + n]."""
    to_prefix = additive_mask(is_valid, dtype)
    to_steps = F.pad(to_prefix, (0, num_leading + horizon))
    return to_steps.repeat_interleave(num_steps, dim=0), F.pad(to_prefix, (0, num_leading))


def _positions(is_valid: Tensor, num_steps: int, horizon: int, num_leading: int) -> Tensor:
    """Return int64 [B, T]: leading tokens follow the prefix, and every step follows them."""
    leading = torch.arange(num_leading, device=is_valid.device)
    within = torch.arange(num_leading, num_leading + horizon, device=is_valid.device)
    return is_valid.sum(-1, keepdim=True) + torch.cat([leading, within.repeat(num_steps)])


def _buffers(cache: PrefixCache, num_own: int) -> tuple[tuple[Tensor, Tensor], ...]:
    """Return the prefix of every layer with room for ``num_own`` suffix tokens behind it."""
    return tuple(
        (F.pad(key, (0, 0, 0, num_own)), F.pad(value, (0, 0, 0, num_own)))
        for key, value in zip(cache.keys, cache.values, strict=True)
    )


def _per_step(shared: Tensor, own: Tensor, num_steps: int) -> Tensor:
    """[B, L + n, D] and [B, S * H, D] -> [B * S, L + n + H, D]."""
    own = own.unflatten(1, (num_steps, -1))
    shared = shared[:, None].expand(-1, num_steps, -1, -1)
    return torch.cat([shared, own], dim=2).flatten(0, 1)
