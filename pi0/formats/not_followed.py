"""What a foreign config.json says and has no effect here, named key by key.

Keys that only matter to training or to speed share one line each, so that the others are seen.
"""

import json
from collections.abc import Container, Mapping
from typing import Any

_TRAINING = (
    "optimizer_", "scheduler_", "time_sampling_", "freeze_", "train_", "gradient_", "loss_", "push_to_hub",
    "repo_id", "private", "tags", "license", "pretrained_", "use_peft", "rtc_training_",
)  # fmt: skip
_SPEED = (
    "device",
    "use_amp",
    "compile_",
    "use_cache",
    "attention_implementation",
    "pytorch_compile_",
)
_REASONS: Mapping[str, str] = {
    "empty_cameras": "masked cameras are left out, the action chunk is the same",
    "proj_width": "the width of the tensors counts",
    "paligemma_variant": "vlm_config counts",
    "action_expert_variant": "dit_config counts",
    "image_processor": "image_size and resize count",
    "rtc_config": "action chunks are not blended",
    "relative_exclude_joints": "actions are absolute",
    "action_feature_names": "actions are absolute",
}
_LONGEST = 70


def ignored_keys(name: str, raw: Mapping[str, Any], followed: Container[str]) -> list[str]:
    """Return the keys of a configuration that have no effect, with their values.

    Args:
        name: Of the file.
        raw: Its content.
        followed: The keys that have an effect.
    """
    ignored = {key: value for key, value in raw.items() if key not in followed}
    members = {
        "for training": [said(k, v) for k, v in ignored.items() if k.startswith(_TRAINING)],
        "for speed": [said(k, v) for k, v in ignored.items() if k.startswith(_SPEED)],
    }
    lines = [
        f"{name}: {said(key, value)}" + (f" ({_REASONS[key]})" if key in _REASONS else "")
        for key, value in ignored.items()
        if not key.startswith((*_TRAINING, *_SPEED))
    ]
    return lines + [f"{name}, {what}: {', '.join(some)}" for what, some in members.items() if some]


def said(key: str, value: Any) -> str:
    """Return a key and its value on one line, long values cut."""
    text = json.dumps(value)
    return f"{key} {text if len(text) <= _LONGEST else text[: _LONGEST - 4] + ' ...'}"
