"""Normalization statistics wherever openpi, LeRobot, RLinf and transformers put them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from pi0.card import ENV_ACTION_DIM, PolicyCard
from pi0.files import is_there, read_json, refuse_stand_in
from pi0.formats.lerobot.pipelines import POSTPROCESSOR, PREPROCESSOR, normalizer_step
from pi0.formats.robots import real_width, robot_of
from pi0.formats.weight_files import WeightFiles
from pi0.norm_stats import STATISTIC_NAMES, NormStats, check_norm_stats

Raw = Mapping[str, Mapping[str, Any]]

PROCESSOR = "processor_config.json"
_NORM_STATS = "norm_stats.json"
# beside norm_stats.json in the folder, below assets/ (openpi) or two folders down (RLinf)
_PLACES = ("meta/stats.json", PREPROCESSOR, PROCESSOR)  # meta: a LeRobot data set
_EMBEDDED = {
    "state": ("normalize_inputs.buffer_observation_state",),
    "actions": ("unnormalize_outputs.buffer_action", "normalize_targets.buffer_action"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStats:
    """The statistics of a checkpoint.

    Attributes:
        stats: Those of LIBERO.
        source: The file they were read from; the first of several that agree.
        not_followed: Files of other robots that lie beside them, one line each.
    """

    stats: NormStats
    source: str
    not_followed: tuple[str, ...]


def find_norm_stats(
    folder: Path, card: PolicyCard, weights: WeightFiles | None, chosen: Path | None
) -> FoundStats:
    """Return the statistics of a checkpoint.

    Args:
        folder: The checkpoint.
        card: Says which statistics are needed and how many dims are real.
        weights: Its tensors; LeRobot before 0.4 kept statistics among them.
        chosen: A file or folder that replaces all of the above.

    Raises:
        FileNotFoundError: There are none; a policy never runs without.
        ValueError: They are unusable, of another robot, or several sources disagree.
    """
    if chosen is not None and not is_there(chosen):
        raise FileNotFoundError(
            f"norm_stats_path {chosen} does not exist; give a norm_stats.json, a stats.json of a "
            "LeRobot data set or a folder that holds one"
        )
    source = chosen or folder
    paths = [source] if source.is_file() else _json_files(source)
    found = {str(path): raw for path in paths if (raw := _read(path)) is not None}
    if weights is not None and chosen is None and (raw := _embedded(weights)):
        found[str(weights.path)] = raw
    if not found:
        raise FileNotFoundError(
            f"no norm_stats.json, {PREPROCESSOR} or meta/stats.json with statistics in {source}; "
            "a policy cannot run without them, set norm_stats_path to the file it was trained with"
        )
    return _choose(found, card)


def _choose(found: Mapping[str, Raw], card: PolicyCard) -> FoundStats:
    foreign = {name: text for name, raw in found.items() if (text := _other_robot(raw, card))}
    if len(foreign) == len(found):
        listed = "; ".join(f"{name} is of {text}" for name, text in sorted(foreign.items()))
        raise ValueError(
            f"no statistics of LIBERO: {listed}; bring the statistics of LIBERO's states and actions, "
            "set norm_stats_path"
        )
    checked = {
        name: check_norm_stats(raw, card, f"{name}: ")
        for name, raw in found.items()
        if name not in foreign
    }
    if len({stats.digest for stats in checked.values()}) > 1:
        raise ValueError(
            f"several normalization statistics: {', '.join(sorted(checked))}; "
            "set norm_stats_path to the one of LIBERO"
        )
    return FoundStats(
        stats=next(iter(checked.values())),
        source=next(iter(checked)),
        not_followed=tuple(f"{name}: of {text}" for name, text in sorted(foreign.items())),
    )


def _other_robot(raw: Any, card: PolicyCard) -> str | None:
    """Return whose statistics they are, None if they have LIBERO's widths or no clear ones."""
    if not isinstance(raw, Mapping):
        return None
    state = real_width(raw.get("state"), card.state_dim, card.state_width)
    action = real_width(raw.get("actions"), card.action_dim, ENV_ACTION_DIM)
    if state in (None, card.state_width) and action in (None, ENV_ACTION_DIM):
        return None
    return f"{robot_of(state, action)}: {state} numbers of state and {action} of action"


def _json_files(folder: Path) -> list[Path]:
    """Return every file of statistics in the known places; what cannot be listed is an error."""
    assets = folder / "assets"
    near = [folder, *_folders(folder), *(_folders(assets) if is_there(assets) else [])]
    far = [inner for each in near[1:] for inner in _folders(each)]
    paths = [each / _NORM_STATS for each in (*near, *far)] + [folder / name for name in _PLACES]
    return sorted({path for path in paths if is_there(path)})


def _folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, hidden ones (.cache, .ipynb_checkpoints, .git) left out."""
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _read(path: Path) -> Raw | None:
    """Return the statistics of a file, or None for a processor file without statistics."""
    if path.suffix == ".safetensors":
        return _pipeline_state(path)
    if path.name in (PREPROCESSOR, POSTPROCESSOR):
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
    after = _state_of(folder / POSTPROCESSOR) if is_there(folder / POSTPROCESSOR) else None
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
    if not is_there(pipeline.parent / name):
        raise FileNotFoundError(
            f"{pipeline.parent / name} does not exist, {pipeline.name} keeps its statistics there; "
            "copy the file too"
        )
    return _pipeline_state(pipeline.parent / name)


def _pipeline_state(path: Path) -> Raw:
    groups = {"observation.state": "state", "action": "actions"}
    raw: dict[str, dict[str, Any]] = {"state": {}, "actions": {}}
    refuse_stand_in(path)
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
