"""LeRobot's two pipelines: what is done to observations and actions around the network."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi0.files import is_there, read_json
from pi0.norm_stats import LEROBOT_EPSILON

PREPROCESSOR = "policy_preprocessor.json"
POSTPROCESSOR = "policy_postprocessor.json"

STATE_IN_PROMPT = "pi05_prepare_state_tokenizer_processor_step"

_NORMALIZER, _UNNORMALIZER = "normalizer_processor", "unnormalizer_processor"
_RELATIVE, _ABSOLUTE = "relative_actions_processor", "absolute_actions_processor"
_TOKENIZER, _NEW_LINE, _RENAME = (
    "tokenizer_processor",
    "pi0_new_line_processor",
    "rename_observations_processor",
)
# Steps that are done here -> their settings that are followed or make no difference here.
_STEPS: Mapping[str, frozenset[str]] = {
    _RENAME: frozenset({"rename_map"}),
    "to_batch_processor": frozenset(),
    _NEW_LINE: frozenset(),
    STATE_IN_PROMPT: frozenset(),
    _TOKENIZER: frozenset({"max_length", "task_key", "padding", "truncation", "tokenizer_name"}),
    "device_processor": frozenset({"device"}),
    _NORMALIZER: frozenset({"features", "norm_map"}),
    _UNNORMALIZER: frozenset({"features", "norm_map"}),
    _RELATIVE: frozenset({"enabled", "exclude_joints", "action_names"}),
    _ABSOLUTE: frozenset({"enabled"}),
}
# Further settings and the one value that is done here.
_DONE: Mapping[str, Any] = {
    "padding_side": "right",
    "float_dtype": None,
    "eps": LEROBOT_EPSILON,
    "normalize_observation_keys": None,
}

Steps = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipelines:
    """What a policy depends on in the pipelines.

    Attributes:
        folder: Where they are, for messages.
        norm_maps: Kind of a feature -> name of its normalization, of the first and of the second one; empty
            where there is no such step.
        relative: Whether the first makes actions relative to the state and the second undoes it; None
            where no step says so.
        absolute_joints: Parts of the names of actions that stay absolute.
        action_names: Names of the actions, in order.
        max_prompt_tokens: Length of a prompt; None if there is no tokenizer.
        renamed_images: What an image of the network is called in the data.
        not_followed: What is not done here, one line each.
    """

    folder: Path
    norm_maps: tuple[Mapping[str, Any], Mapping[str, Any]]
    relative: tuple[bool | None, bool | None]
    absolute_joints: tuple[str, ...]
    action_names: tuple[str, ...]
    max_prompt_tokens: int | None
    renamed_images: Mapping[str, str]
    not_followed: tuple[str, ...]


def read_pipelines(folder: Path) -> Pipelines | None:
    """Return what the pipelines of a folder do, None where there are none.

    Raises:
        FileNotFoundError: One of the two is missing.
        ValueError: One is no pipeline.
    """
    paths = (folder / PREPROCESSOR, folder / POSTPROCESSOR)
    if not any(is_there(path) for path in paths):
        return None
    before, after = (_steps(path) for path in paths)
    relative = before.get(_RELATIVE, {})
    return Pipelines(
        folder=folder,
        norm_maps=(
            _mapping(before.get(_NORMALIZER, {}).get("norm_map")),
            _mapping(after.get(_UNNORMALIZER, {}).get("norm_map")),
        ),
        relative=(_switch(before, _RELATIVE), _switch(after, _ABSOLUTE)),
        absolute_joints=_texts(relative.get("exclude_joints")),
        action_names=_texts(relative.get("action_names")),
        max_prompt_tokens=before.get(_TOKENIZER, {}).get("max_length"),
        renamed_images={
            str(network): str(data)
            for data, network in _mapping(before.get(_RENAME, {}).get("rename_map")).items()
        },
        not_followed=(*_not_followed(paths[0], before), *_not_followed(paths[1], after)),
    )


def normalizer_step(path: Path) -> Mapping[str, Any]:
    """Return the (un)normalizer step of a pipeline, empty if there is none."""
    return next((step for step in _listed(path) if _name(step) in (_NORMALIZER, _UNNORMALIZER)), {})


def _listed(path: Path) -> list[Mapping[str, Any]]:
    steps = read_json(path).get("steps")
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise ValueError(f"{path}: steps must be a list of objects; copy the file again")
    return steps


def _name(step: Mapping[str, Any]) -> str:
    return str(step.get("registry_name", step.get("class")))


def _steps(path: Path) -> Steps:
    return {_name(step): _mapping(step.get("config")) for step in _listed(path)}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _switch(steps: Steps, name: str) -> bool | None:
    return bool(steps[name].get("enabled")) if name in steps else None


def _not_followed(path: Path, steps: Steps) -> list[str]:
    lines = [
        f"{path.name}: step {name!r} is unknown here and not done"
        for name in steps
        if name not in _STEPS
    ]
    for name, settings in steps.items():
        lines += [
            f"{path.name}: {name}.{key} {json.dumps(value)}"
            for key, value in settings.items()
            if name in _STEPS and key not in _STEPS[name] and not _is_done(key, value)
        ]
    if _TOKENIZER in steps and not {_NEW_LINE, STATE_IN_PROMPT} & steps.keys():
        lines.append(f"{path.name}: no {_NEW_LINE}, but prompts end with a line break here")
    return lines


def _is_done(key: str, value: Any) -> bool:
    return key in _DONE and _DONE[key] == value
