"""Normalization statistics wherever openpi, LeRobot, RLinf and transformers put them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from pi0.card import PolicyCard, read_json
from pi0.formats.weight_files import WeightFiles
from pi0.norm_stats import STATISTIC_NAMES, NormStats, check_norm_stats

Raw = Mapping[str, Mapping[str, Any]]

PREPROCESSOR = "policy_preprocessor.json"
POSTPROCESSOR = "policy_postprocessor.json"
PROCESSOR = "processor_config.json"
_JSON_PATTERNS = (
    "norm_stats.json",
    "assets/*/norm_stats.json",
    "assets/*/*/norm_stats.json",
    "*/norm_stats.json",  # RLinf, without "assets"
    "*/*/norm_stats.json",
    "meta/stats.json",  # a LeRobot data set
    PREPROCESSOR,
    PROCESSOR,
)
_EMBEDDED = {
    "state": ("normalize_inputs.buffer_observation_state",),
    "actions": ("unnormalize_outputs.buffer_action", "normalize_targets.buffer_action"),
}


def find_norm_stats(
    folder: Path, card: PolicyCard, weights: WeightFiles | None, chosen: Path | None
) -> NormStats:
    """Return the statistics of a checkpoint.

    Args:
        folder: The checkpoint.
        card: Says which statistics are needed and how many dims are real.
        weights: Its tensors; LeRobot before 0.4 kept statistics among them.
        chosen: A file or folder that replaces all of the above.

    Raises:
        FileNotFoundError: There are none; a policy never runs without.
        ValueError: They are unusable, or several sources disagree.
    """
    if chosen is not None and not chosen.exists():
        raise FileNotFoundError(
            f"norm_stats_path {chosen} does not exist; give a norm_stats.json, a stats.json of a "
            "LeRobot data set or a folder that holds one"
        )
    source = chosen or folder
    if source.is_file():
        return check_norm_stats(_read(source), card, f"{source}: ")
    found = {str(path): raw for path in _json_files(source) if (raw := _read(path)) is not None}
    if weights is not None and chosen is None and (raw := _embedded(weights)):
        found[str(weights.path)] = raw
    if not found:
        raise FileNotFoundError(
            f"no norm_stats.json, {PREPROCESSOR} or meta/stats.json with statistics in {source}; "
            "a policy cannot run without them, set norm_stats_path to the file it was trained with"
        )
    checked = {name: check_norm_stats(raw, card, f"{name}: ") for name, raw in found.items()}
    if len({stats.digest for stats in checked.values()}) > 1:
        raise ValueError(
            f"several normalization statistics: {', '.join(sorted(checked))}; "
            "set norm_stats_path to the one of LIBERO"
        )
    return next(iter(checked.values()))


def normalizer_step(path: Path) -> Mapping[str, Any]:
    """Return the (un)normalizer step of a LeRobot pipeline, empty if there is none."""
    steps = read_json(path).get("steps")
    for step in steps if isinstance(steps, list) else []:
        name = step.get("registry_name") if isinstance(step, dict) else None
        if name in ("normalizer_processor", "unnormalizer_processor"):
            return step
    return {}


def _json_files(folder: Path) -> list[Path]:
    return sorted({path for pattern in _JSON_PATTERNS for path in folder.glob(pattern)})


def _read(path: Path) -> Raw | None:
    """Return the statistics of a file, or None for a processor file without statistics."""
    if path.suffix == ".safetensors":
        return _pipeline_state(path)
    if path.name == PREPROCESSOR:
        return _pipelines(path.parent)
    raw = read_json(path)
    if "norm_stats" in raw:
        return raw["norm_stats"]
    if "observation.state" in raw and "action" in raw:
        return {"state": raw["observation.state"], "actions": raw["action"]}
    if path.name == PROCESSOR and raw.get("state_mean") is None:
        return None
    if "state_mean" in raw:
        return {
            group: {name: raw.get(f"{group}_{name}") for name in STATISTIC_NAMES}
            for group in ("state", "actions")
        }
    raise ValueError(
        f"{path} holds no statistics; allowed: openpi's norm_stats.json, stats.json of a LeRobot "
        f"data set, {PREPROCESSOR} or {PROCESSOR}"
    )


def _pipelines(folder: Path) -> Raw | None:
    """Return what LeRobot's pipelines normalize with; both directions must agree."""
    before = _state_of(folder / PREPROCESSOR)
    after = _state_of(folder / POSTPROCESSOR) if (folder / POSTPROCESSOR).is_file() else None
    if before is None or after is None:
        return before
    if after["actions"] != before["actions"]:
        raise ValueError(
            f"{folder}: {PREPROCESSOR} and {POSTPROCESSOR} normalize actions differently; "
            "set norm_stats_path to the right statistics"
        )
    return before


def _state_of(pipeline: Path) -> Raw | None:
    name = normalizer_step(pipeline).get("state_file")
    if not isinstance(name, str):
        return None
    if not (pipeline.parent / name).is_file():
        raise FileNotFoundError(
            f"{pipeline.parent / name} does not exist, {pipeline.name} keeps its statistics there; "
            "copy the file too"
        )
    return _pipeline_state(pipeline.parent / name)


def _pipeline_state(path: Path) -> Raw:
    groups = {"observation.state": "state", "action": "actions"}
    raw: dict[str, dict[str, Any]] = {"state": {}, "actions": {}}
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
                feature, _, statistic = key.rpartition(".")
                if feature in groups and statistic in STATISTIC_NAMES:
                    raw[groups[feature]][statistic] = file.get_tensor(key).double().tolist()
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged or not safetensors ({error}); copy it again") from None
    return raw


def _embedded(weights: WeightFiles) -> Raw | None:
    raw: dict[str, dict[str, Any]] = {"state": {}, "actions": {}}
    for group, prefixes in _EMBEDDED.items():
        for prefix in prefixes:
            for statistic in STATISTIC_NAMES:
                tensor = weights.tensors.get(f"{prefix}.{statistic}")
                if tensor is not None:
                    raw[group].setdefault(statistic, tensor.read().double().tolist())
    return raw if raw["state"] or raw["actions"] else None
