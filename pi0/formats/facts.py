"""What the files of a checkpoint say about the policy card, in the words of the card.

Everything they do not say comes from the protocol's preset.
"""

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import torch

from pi0.card import Layout, read_json
from pi0.formats.layouts import EMBEDDING
from pi0.formats.stats_files import PREPROCESSOR, normalizer_step
from pi0.formats.weight_files import StoredTensor

CONFIG = "config.json"
NORM_MODES = {
    "MEAN_STD": "z_score",
    "QUANTILES": "quantile",
    "QUANTILE10": "quantile10",
    "MIN_MAX": "min_max",
}
# Names of images in LeRobot's and openpi's data -> LIBERO's cameras; None is never given to the policy.
CAMERAS: Mapping[str, str | None] = {
    "image": "agentview",
    "base_0_rgb": "agentview",
    "agentview": "agentview",
    "image2": "robot0_eye_in_hand",
    "wrist_image": "robot0_eye_in_hand",
    "left_wrist_0_rgb": "robot0_eye_in_hand",
    "robot0_eye_in_hand": "robot0_eye_in_hand",
    "right_wrist_0_rgb": None,
}
_OPENPI_KEYS = {"action_horizon": "horizon", "action_dim": "action_dim", "precision": "dtype"}
_LEROBOT_KEYS = {
    "chunk_size": "horizon",
    "n_action_steps": "execute_steps",
    "max_action_dim": "action_dim",
    "max_state_dim": "state_dim",
    "num_inference_steps": "denoise_steps",
    "tokenizer_max_length": "max_prompt_tokens",
    "dtype": "dtype",
}
_TRANSFORMERS_KEYS = {
    "chunk_size": "horizon",
    "max_action_dim": "action_dim",
    "max_state_dim": "state_dim",
    "num_inference_steps": "denoise_steps",
}


def card_facts(
    folder: Path, layout: Layout, raw: Mapping[str, Any], chosen: Container[str]
) -> dict[str, Any]:
    """Return the keys of the policy card that a foreign folder fixes.

    Args:
        folder: The checkpoint.
        layout: Of its weights.
        raw: Its config.json, or empty.
        chosen: Keys that the user decides, so that the files need not make sense there.
    """
    if layout == "lerobot":
        return _renamed(raw, _LEROBOT_KEYS) | _lerobot_facts(folder, raw, chosen)
    if layout in ("openpi", "rlinf"):
        facts = _renamed(raw, _OPENPI_KEYS)
        # openpi pads states to the width of actions
        return facts | ({"state_dim": facts["action_dim"]} if "action_dim" in facts else {})
    return _renamed(raw, _TRANSFORMERS_KEYS)


def stored_dtype(tensors: Mapping[str, StoredTensor]) -> str:
    """Return the precision for the vision-language model that fits how its weights are stored."""
    half = (torch.bfloat16, torch.float16)
    return "bfloat16" if tensors[EMBEDDING].dtype in half else "float32"


def refuse_other_models(folder: Path, raw: Mapping[str, Any]) -> None:
    """Raise ValueError, with what to do, for a folder of one of pi0's relatives."""
    for inner in (folder, folder / "params"):
        if any((inner / name).exists() for name in ("_METADATA", "_CHECKPOINT_METADATA")):
            raise ValueError(
                f"{folder} is a JAX (orbax) checkpoint; convert it in openpi: python "
                "examples/convert_jax_model_to_pytorch.py --checkpoint_dir DIR --config_name "
                "pi0_libero --output_path OUT, and give OUT"
            )
    kind = raw.get("type", raw.get("model_type"))
    if raw.get("pi05"):
        kind = "pi05"
    if kind not in (None, "pi0"):
        raise ValueError(
            f"{folder / CONFIG}: model_type must be 'pi0', got {kind!r}; "
            "pi0.5, pi0-FAST and other models cannot be loaded"
        )


def read_config_file(folder: Path, *, is_required: bool) -> dict[str, Any]:
    """Return config.json, or an empty mapping where it may be absent."""
    path = folder / CONFIG
    return read_json(path) if is_required or path.exists() else {}


def _renamed(raw: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    return {ours: raw[theirs] for theirs, ours in keys.items() if raw.get(theirs) is not None}


def _lerobot_facts(folder: Path, raw: Mapping[str, Any], chosen: Container[str]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if "norm_mode" not in chosen:
        facts["norm_mode"] = _norm_mode(folder, raw)
    if "extra_delta" not in chosen and raw.get("use_relative_actions") is not None:
        facts["extra_delta"] = _is_relative(folder, raw)
    images = [
        name.rpartition(".")[2]
        for name, feature in _mapping(raw.get("input_features")).items()
        if _mapping(feature).get("type") == "VISUAL"
    ]
    if "cameras" not in chosen and images:
        facts["cameras"] = _cameras(folder, images)
    return facts


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return a JSON object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def _norm_mode(folder: Path, raw: Mapping[str, Any]) -> str:
    mapping, path = raw.get("normalization_mapping"), folder / CONFIG
    if (folder / PREPROCESSOR).is_file():
        step = normalizer_step(folder / PREPROCESSOR)
        settings = _mapping(step.get("config"))
        mapping, path = settings.get("norm_map", mapping), folder / PREPROCESSOR
    if mapping is None:
        return "z_score"
    modes = {str(_mapping(mapping).get(kind, "IDENTITY")) for kind in ("STATE", "ACTION")}
    if len(modes) > 1 or not modes <= NORM_MODES.keys():
        raise ValueError(
            f"{path}: states and actions must share one normalization of "
            f"{', '.join(NORM_MODES)}, got {', '.join(sorted(modes))}"
        )
    return NORM_MODES[modes.pop()]


def _is_relative(folder: Path, raw: Mapping[str, Any]) -> bool:
    """Return whether six of seven actions are relative; other choices cannot be expressed."""
    if not raw["use_relative_actions"]:
        return False
    names = raw.get("action_feature_names") or []
    excluded = [token.lower() for token in raw.get("relative_exclude_joints") or []]
    absolute = [any(token in str(name).lower() for token in excluded) for name in names]
    if absolute != [False] * 6 + [True]:
        raise ValueError(
            f"{folder / CONFIG}: use_relative_actions must leave exactly the gripper absolute, got "
            f"relative_exclude_joints {excluded} of action_feature_names {names}"
        )
    return True


def _cameras(folder: Path, images: list[str]) -> tuple[str, ...]:
    for name in images:
        if name not in CAMERAS and not name.startswith("empty_camera"):
            raise ValueError(
                f"{folder / CONFIG}: image {name!r} is no camera of LIBERO, known: "
                f"{', '.join(CAMERAS)}; set policy.overrides.cameras"
            )
    known = [CAMERAS[name] for name in images if name in CAMERAS]
    return tuple(camera for camera in known if camera is not None)
