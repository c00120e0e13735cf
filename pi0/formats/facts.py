"""What the files of a checkpoint say about the policy card, in the words of the card.

Everything they do not say comes from the protocol's preset; what they say without effect is named.
"""

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PI0Config

from pi0.card import Layout, PolicyCard
from pi0.formats.evidence import CONFIG, Evidence
from pi0.formats.lerobot import config as lerobot
from pi0.formats.lerobot.pipelines import PREPROCESSOR
from pi0.formats.not_followed import ignored_keys, said
from pi0.formats.sizes import SIZE_KEYS, VARIANTS
from pi0.formats.spellings import EMBEDDING
from pi0.formats.stats_files import PROCESSOR
from pi0.formats.weight_files import StoredTensor
from pi0.model.architecture import PI05_KEY
from pi0.norm_stats import STATISTIC_NAMES

_OPENPI_KEYS = {
    "action_horizon": "horizon",
    "action_dim": "action_dim",
    "precision": "dtype",
    "max_token_len": "max_prompt_tokens",
}
_TRANSFORMERS_KEYS = {
    "chunk_size": "horizon",
    "max_action_dim": "action_dim",
    "max_state_dim": "state_dim",
    "num_inference_steps": "denoise_steps",
}
_OF_CONFIGURATION = ("horizon", "extra_delta", "norm_mode", "prompt_state", "max_prompt_tokens")
_IN_PROMPT = "discrete_state_input"
_RELATIVE_KEYS = ("relative_exclude_joints", "action_feature_names")
# transformers' processor: its statistics are read, its widths are compared with config.json
_WIDTHS = ("chunk_size", "max_state_dim")
_OF_PROCESSOR = frozenset(
    {"processor_class", *_WIDTHS}
    | {f"{group}_{name}" for group in ("state", "actions") for name in STATISTIC_NAMES}
)
_RESOLUTION = ("image_resolution", "resize_imgs_with_padding")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the files of a folder fix.

    Attributes:
        keys: Keys of the policy card.
        sources: The file that fixes each of them.
        not_followed: What they say without effect, one line each.
    """

    keys: Mapping[str, Any]
    sources: Mapping[str, str]
    not_followed: tuple[str, ...]


def card_facts(evidence: Evidence, layout: Layout, chosen: Container[str]) -> Facts:
    """Return the keys of the policy card that a foreign folder fixes.

    Args:
        evidence: What is in the folder.
        layout: Who wrote it.
        chosen: Keys that the user decides, so that the files need not make sense there.
    """
    raw, path, pipelines = evidence.config or {}, evidence.folder / CONFIG, evidence.pipelines
    if layout == "lerobot":
        keys = lerobot.lerobot_facts(path, raw, pipelines, chosen)
        _require_prompt_state(evidence, chosen)
    elif evidence.tree is not None:
        keys = _renamed(evidence.tree, _TRANSFORMERS_KEYS)
    else:
        keys = _renamed(raw, _OPENPI_KEYS if layout in ("openpi", "rlinf") else _TRANSFORMERS_KEYS)
    if layout in ("openpi", "rlinf") and "action_dim" in keys:
        keys["state_dim"] = keys["action_dim"]  # openpi pads states to the width of actions
    if layout in ("openpi", "rlinf") and evidence.is_pi05 and _IN_PROMPT in raw:
        keys["prompt_state"] = "8" if raw[_IN_PROMPT] else "none"
    piped = lerobot.pipeline_facts(pipelines, chosen) if pipelines else {}
    _refuse_two_switches(evidence, keys, piped)
    _refuse_two_widths(evidence)
    return Facts(
        keys=keys | piped,
        sources=dict.fromkeys(keys, "sizes of the arrays" if evidence.tree else CONFIG)
        | dict.fromkeys(piped, PREPROCESSOR),
        not_followed=(
            *_ignored(evidence, layout, keys, piped),
            *(pipelines.not_followed if pipelines else ()),
            *evidence.beside,
        ),
    )


def _require_prompt_state(evidence: Evidence, chosen: Container[str]) -> None:
    if evidence.is_pi05 and "prompt_state" not in chosen:
        raise ValueError(
            f"{evidence.folder}: LeRobot's files do not say how many numbers of the state stand in a "
            "pi0.5's prompts; set policy.overrides.prompt_state=32 (trained with LeRobot before 0.5) or 8"
        )


def stored_dtype(tensors: Mapping[str, StoredTensor]) -> str:
    """Return the precision for the vision-language model that fits how its weights are stored."""
    half = (torch.bfloat16, torch.float16)
    return "bfloat16" if tensors[EMBEDDING].dtype in half else "float32"


def rounded_weights(tensors: Mapping[str, StoredTensor], dtype: str) -> list[str]:
    """Return what is lost where weights are stored in a precision that the network does not have."""
    stored = tensors[EMBEDDING]
    if stored.dtype != torch.float16 or dtype != "bfloat16":
        return []
    return [
        f"{stored.path.name}: float16 weights are rounded to bfloat16 (dtype float32 keeps them)"
    ]


def _renamed(raw: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    return {ours: raw[theirs] for theirs, ours in keys.items() if raw.get(theirs) is not None}


def _refuse_two_switches(
    evidence: Evidence, keys: Mapping[str, Any], piped: Mapping[str, Any]
) -> None:
    """A wrong ``extra_delta`` costs all success: two files that differ on it are refused."""
    if (
        "extra_delta" in keys
        and piped.get("extra_delta", keys["extra_delta"]) != keys["extra_delta"]
    ):
        raise ValueError(
            f"{evidence.folder / CONFIG}: use_relative_actions is {str(keys['extra_delta']).lower()}, but "
            f"{PREPROCESSOR} has relative_actions_processor "
            f"{'enabled' if piped['extra_delta'] else 'disabled'}; set policy.overrides.extra_delta"
        )


def _refuse_two_widths(evidence: Evidence) -> None:
    """What transformers' processor repeats of config.json must be the same."""
    raw, processor = evidence.config or {}, evidence.processor or {}
    for key in _WIDTHS:
        one, other = raw.get(key), processor.get(key)
        if None not in (one, other) and one != other:
            raise ValueError(
                f"{evidence.folder}: {CONFIG} says {said(key, one)} but {PROCESSOR} says "
                f"{said(key, other)}; they must agree, copy both again"
            )


def _ignored(
    evidence: Evidence, layout: Layout, keys: Mapping[str, Any], piped: Mapping[str, Any]
) -> list[str]:
    raw = evidence.config or {}
    followed = _followed(layout, raw) | ({_IN_PROMPT} if "prompt_state" in keys else set())
    lines = ignored_keys(CONFIG, raw, followed)
    lines += ignored_keys(PROCESSOR, evidence.processor or {}, _OF_PROCESSOR)
    if layout == "lerobot":
        lines += _ignored_features(raw)
    replaced = {"norm_mode": "normalization_mapping", "max_prompt_tokens": "tokenizer_max_length"}
    for ours, theirs in replaced.items():
        if theirs in raw and ours in piped and keys.get(ours) not in (None, piped[ours]):
            lines.append(
                f"{CONFIG}: {said(theirs, raw[theirs])} ({PREPROCESSOR} counts: {ours} {piped[ours]})"
            )
    return lines


def assumed_keys(
    evidence: Evidence, card: PolicyCard, chosen: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return what a folder had to say of its policy and does not: a JAX tree holds nothing but weights.

    Args:
        evidence: Of the folder.
        card: What the policy is given instead.
        chosen: Keys of the card that the user decided.
    """
    if evidence.tree is None:
        return ()
    keys = [key for key in _OF_CONFIGURATION if key not in chosen]
    values = ", ".join(f"{key} {json.dumps(getattr(card, key))}" for key in keys)
    model = "pi05_libero" if evidence.is_pi05 else "pi0_libero"
    return (f"{values}: as in openpi's {model}, a JAX folder does not say",) if keys else ()


def _followed(layout: Layout, raw: Mapping[str, Any]) -> frozenset[str]:
    """Return the keys of config.json that have an effect."""
    sizes = {*SIZE_KEYS, *(() if "vlm_config" in raw or "dit_config" in raw else VARIANTS)}
    if layout == "lerobot":
        relative = _RELATIVE_KEYS if raw.get("use_relative_actions") else ()
        seen = {"type", "model_type", "use_relative_actions", "normalization_mapping"}
        features = {"input_features", "output_features"}
        return frozenset(
            {*lerobot.KEYS, *lerobot.ONLY, *sizes, *relative, *seen, *features, *_RESOLUTION}
        )
    if layout in ("openpi", "rlinf"):
        return frozenset({*_OPENPI_KEYS, *sizes, PI05_KEY})
    if layout == "jax":
        return frozenset()
    known = {
        key for key in PI0Config().to_dict() if not key.startswith(("time_sampling_", "loss_"))
    }
    return frozenset(known | {"architectures", "transformers_version"})


def _ignored_features(raw: Mapping[str, Any]) -> list[str]:
    """Return what LeRobot's features say beyond the cameras and the widths of LIBERO."""
    images = lerobot.image_names(raw)
    used = {"observation.state", "action", *images}
    features = {
        name: feature
        for group in ("input_features", "output_features")
        for name, feature in lerobot.mapping(raw.get(group)).items()
    }
    shapes = [said(name, lerobot.mapping(features[name]).get("shape")) for name in images]
    lines = [f"{CONFIG}: shapes {', '.join(shapes)} (render_size counts)"] if shapes else []
    visual = lerobot.mapping(raw.get("normalization_mapping")).get("VISUAL", "IDENTITY")
    if visual != "IDENTITY":
        lines.append(f"{CONFIG}: normalization_mapping.VISUAL {visual} (images become -1 to 1)")
    return [
        *lines,
        *(f"{CONFIG}: {said(name, each)}" for name, each in features.items() if name not in used),
    ]
