"""The files that LeRobot reads beside the weights of a pi0: configuration and two pipelines."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pi0.card import ENV_ACTION_DIM, PolicyCard
from pi0.formats.lerobot.config import CAMERAS, NORM_MODES
from pi0.formats.lerobot.pipelines import STATE_IN_PROMPT
from pi0.norm_stats import LEROBOT_EPSILON, NormStats

ACTION_NAMES = ("x", "y", "z", "axis_angle1", "axis_angle2", "axis_angle3", "gripper")
TOKENIZER_NAME = "google/paligemma-3b-pt-224"  # LeRobot fetches it by this name
_STATE, _ACTION = "observation.state", "action"


def lerobot_config(card: PolicyCard, *, is_pi05: bool) -> dict[str, Any]:
    """Return ``config.json`` for LeRobot's strict reader."""
    features = _features(card)
    config: dict[str, Any] = {
        "type": "pi05" if is_pi05 else "pi0",
        "n_obs_steps": 1,
        "input_features": {k: v for k, v in features.items() if k != _ACTION},
        "output_features": {_ACTION: features[_ACTION]},
        "normalization_mapping": _norm_map(card),
        "dtype": card.dtype,
        "chunk_size": card.horizon,
        "n_action_steps": card.execute_steps,
        "max_state_dim": card.state_dim,
        "max_action_dim": card.action_dim,
        "num_inference_steps": card.denoise_steps,
        "image_resolution": [card.image_size, card.image_size],
        "tokenizer_max_length": card.max_prompt_tokens,
        "push_to_hub": False,
    }
    if card.extra_delta:  # keys that older LeRobot does not know
        config |= {
            "use_relative_actions": True,
            "relative_exclude_joints": ["gripper"],
            "action_feature_names": list(ACTION_NAMES),
        }
    return config


def lerobot_pipelines(
    card: PolicyCard, stats: NormStats, *, is_pi05: bool
) -> tuple[dict[str, Any], dict[str, dict[str, NDArray[np.float32]]]]:
    """Return (JSON files by name, statistics files by name) of both pipelines."""
    features, norm_map = _features(card), _norm_map(card)
    relative = {"enabled": True, "exclude_joints": ["gripper"], "action_names": list(ACTION_NAMES)}
    settings = {"eps": LEROBOT_EPSILON, "norm_map": norm_map}
    prompt = {
        "max_length": card.max_prompt_tokens,
        "task_key": "task",
        "padding_side": "right",
        "padding": "max_length",
        "truncation": True,
        "tokenizer_name": TOKENIZER_NAME,
    }
    relatives = [("relative_actions_processor", relative)] if card.extra_delta else []
    normalizer = ("normalizer_processor", {"features": features, **settings})
    tokenizer = ("tokenizer_processor", prompt)
    device = ("device_processor", {"device": "cpu", "float_dtype": None})
    start = [("rename_observations_processor", {"rename_map": {}}), ("to_batch_processor", {})]
    before = [*start, ("pi0_new_line_processor", {}), tokenizer, device, *relatives, normalizer]
    if is_pi05:  # prompts hold the normalized state
        before = [*start, *relatives, normalizer, (STATE_IN_PROMPT, {}), tokenizer, device]
    after = [
        ("unnormalizer_processor", {"features": {_ACTION: features[_ACTION]}, **settings}),
        *([("absolute_actions_processor", {"enabled": True})] if card.extra_delta else []),
        device,
    ]
    texts: dict[str, Any] = {}
    states: dict[str, dict[str, NDArray[np.float32]]] = {}
    for name, steps in (("policy_preprocessor", before), ("policy_postprocessor", after)):
        texts[f"{name}.json"], state_file = _pipeline(name, steps)
        states[state_file] = _flat(stats)
    return texts, states


def _pipeline(name: str, steps: list[tuple[str, Any]]) -> tuple[dict[str, Any], str]:
    """Return a pipeline's JSON and the name of the file with its statistics."""
    entries, state_file = [], ""
    for position, (step, settings) in enumerate(steps):
        entry: dict[str, Any] = {"registry_name": step, "config": settings}
        if "normalizer" in step:
            state_file = f"{name}_step_{position}_{step}.safetensors"
            entry["state_file"] = state_file
        entries.append(entry)
    return {"name": name, "steps": entries}, state_file


def _features(card: PolicyCard) -> dict[str, Any]:
    names: dict[str, str] = {}
    for name, camera in CAMERAS.items():
        if camera is not None:
            names.setdefault(camera, name)
    for camera in card.cameras:
        if camera not in names:
            raise ValueError(
                f"LeRobot's LIBERO has no camera {camera!r}; known: {', '.join(names)}"
            )
    size = [3, card.render_size, card.render_size]
    images = {
        f"observation.images.{names[camera]}": {"type": "VISUAL", "shape": size}
        for camera in card.cameras
    }
    state = {"type": "STATE", "shape": [card.state_width]}
    return images | {_STATE: state, _ACTION: {"type": "ACTION", "shape": [ENV_ACTION_DIM]}}


def _norm_map(card: PolicyCard) -> dict[str, str]:
    mode = next(theirs for theirs, ours in NORM_MODES.items() if ours == card.norm_mode)
    return {"VISUAL": "IDENTITY", "STATE": mode, "ACTION": mode}


def _flat(stats: NormStats) -> dict[str, NDArray[np.float32]]:
    groups = ((_STATE, stats.state), (_ACTION, stats.actions))
    return {
        f"{feature}.{name}": values.astype(np.float32)
        for feature, statistics in groups
        for name, values in statistics.items()
    }
