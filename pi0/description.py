"""The card of a loaded policy: everything a result depends on besides the weights' values."""

import hashlib
from collections.abc import Mapping

import torch

from pi0.policy import Pi0Policy


def describe_policy(policy: Pi0Policy) -> dict[str, object]:
    """Return what is printed on load and stored with every result, ready for JSON."""
    card = policy.card
    expert = sum(parameter.numel() for parameter in policy.network.expert_parameters())
    total = sum(parameter.numel() for parameter in policy.network.parameters())
    return {
        "layout": card.layout,
        "protocol": card.protocol,
        "parameters": total,
        "parameters_vision_language": total - expert,
        "parameters_expert": expert,
        "dtype": card.dtype,
        "horizon": card.horizon,
        "execute_steps": card.execute_steps,
        "denoise_steps": card.denoise_steps,
        "action_dim": card.action_dim,
        "state_dim": card.state_dim,
        "state_encoding": card.state_encoding,
        "extra_delta": card.extra_delta,
        "gripper": card.gripper,
        "norm_mode": card.norm_mode,
        "norm_formula": card.norm_formula,
        "norm_stats_of": card.norm_stats_of,
        "norm_stats_hash": policy.codec.stats.digest,
        "cameras": list(card.cameras),
        "render_size": card.render_size,
        "render_quality": card.render_quality,
        "rotate_180": card.rotate_180,
        "resize": card.resize,
        "image_size": card.image_size,
        "prompt_format": card.prompt_format,
        "prompt_state": card.prompt_state,
        "max_prompt_tokens": card.max_prompt_tokens,
        "min_period": policy.network.config.min_period,
        "max_period": policy.network.config.max_period,
        "not_followed": list(policy.not_followed),
        "assumed": list(policy.assumed),
    }


def weights_digest(policy: Pi0Policy) -> str:
    """Return a hash of the weights' values and of the tokenizer, the same on every device."""
    digest = hashlib.sha256(policy.tokenizer.to_str().encode())
    for name, tensor in sorted(policy.network.named_parameters(remove_duplicate=False)):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]


def description_text(description: Mapping[str, object]) -> str:
    """Return the card for a human, one screen; below it what the files say and is not followed."""
    shown = dict(description)
    total, expert = shown.pop("parameters"), shown.pop("parameters_expert")
    vision, not_followed = shown.pop("parameters_vision_language"), shown.pop("not_followed")
    shown["parameters"] = f"{total:,} (vision-language {vision:,}, expert {expert:,})"
    assumed = shown.pop("assumed")
    assert isinstance(not_followed, list), f"not_followed: {not_followed!r}"
    assert isinstance(assumed, list), f"assumed: {assumed!r}"
    lines = [f"  {name:<18}{_plain(value)}\n" for name, value in shown.items()]
    lines += [f"  assumed: {line}\n" for line in assumed]
    lines += [f"  not followed: {line}\n" for line in not_followed]
    return "policy card\n" + "".join(lines)


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
