"""What LeRobot's config.json and pipelines say about the policy card, in the words of the card.

Where both say something, the pipelines are what LeRobot runs.
"""

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from pi0.card import ENV_ACTION_DIM, STATE_DIMS
from pi0.formats.lerobot.pipelines import POSTPROCESSOR, PREPROCESSOR, Pipelines
from pi0.formats.robots import robot_of

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
KEYS = {
    "chunk_size": "horizon",
    "n_action_steps": "execute_steps",
    "max_action_dim": "action_dim",
    "max_state_dim": "state_dim",
    "num_inference_steps": "denoise_steps",
    "num_steps": "denoise_steps",  # before 0.4
    "tokenizer_max_length": "max_prompt_tokens",
    "dtype": "dtype",
}
# Keys with one value that is pi0 or pi0.5 on LIBERO, as it can be run here.
ONLY: Mapping[str, Any] = {
    "n_obs_steps": 1,
    "use_visual_memory": False,
    "use_proprioceptive_memory": False,
    "rtc_training_max_delay": 0,
    "adapt_to_pi_aloha": False,
    "use_delta_joint_actions_aloha": False,
}
_MOST_PIXELS = 10_000


def lerobot_facts(
    path: Path, raw: Mapping[str, Any], pipelines: Pipelines | None, chosen: Container[str]
) -> dict[str, Any]:
    """Return the keys of the policy card that a folder of LeRobot fixes.

    Args:
        path: Its config.json, for messages.
        raw: The content of that file.
        pipelines: What its pipelines do.
        chosen: Keys that the user decides, so that the files need not make sense there.
    """
    _refuse_other_robots(path, raw)
    _refuse_two_spellings(path, raw)
    facts = {ours: raw[theirs] for theirs, ours in KEYS.items() if raw.get(theirs) is not None}
    if "cameras" not in chosen and (images := image_names(raw)):
        renamed = pipelines.renamed_images if pipelines else {}
        facts["cameras"] = _cameras(path, images, renamed)
    if raw.get("normalization_mapping") is not None and "norm_mode" not in chosen:
        facts["norm_mode"] = _norm_mode(path, raw["normalization_mapping"])
    if raw.get("use_relative_actions") is not None and "extra_delta" not in chosen:
        facts["extra_delta"] = _is_relative_by_config(path, raw)
    return facts


def pipeline_facts(pipelines: Pipelines, chosen: Container[str]) -> dict[str, Any]:
    """Return the keys of the policy card that LeRobot's pipelines fix, in a folder of any layout."""
    facts: dict[str, Any] = {}
    if any(pipelines.norm_maps) and "norm_mode" not in chosen:
        facts["norm_mode"] = _norm_mode_of_both(pipelines)
    if pipelines.relative != (None, None) and "extra_delta" not in chosen:
        facts["extra_delta"] = _is_relative_by_both(pipelines)
    if pipelines.max_prompt_tokens is not None:
        facts["max_prompt_tokens"] = pipelines.max_prompt_tokens
    return facts


def image_names(raw: Mapping[str, Any]) -> list[str]:
    """Return the names of the images that a configuration gives the network, in order."""
    features = mapping(raw.get("input_features"))
    return [name for name, each in features.items() if mapping(each).get("type") == "VISUAL"]


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a JSON object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def image_resolution(path: Path, raw: Mapping[str, Any]) -> int | None:
    """Return height and width in pixels of the network's images, None if the file does not say."""
    key = "image_resolution" if "image_resolution" in raw else "resize_imgs_with_padding"
    size = raw.get(key)
    if size is None:
        return None
    is_square = isinstance(size, list) and len(size) == 2 and size[0] == size[1]
    if not is_square or type(size[0]) is not int or not 1 <= size[0] <= _MOST_PIXELS:
        raise ValueError(
            f"{path}: {key} must be two equal numbers of pixels in [1, {_MOST_PIXELS}], got {size!r:.60}"
        )
    return size[0]


def _refuse_other_robots(path: Path, raw: Mapping[str, Any]) -> None:
    for key, value in ONLY.items():
        if raw.get(key, value) not in (value, None):
            raise ValueError(
                f"{path}: {key} must be {value!r} for LIBERO, got {raw[key]!r:.60}; "
                f"{'a policy of ALOHA' if 'aloha' in key else 'such a policy'} cannot be run here"
            )
    state = _width(raw, "input_features", "observation.state")
    action = _width(raw, "output_features", "action")
    if state not in (None, STATE_DIMS["axis_angle"]) or action not in (None, ENV_ACTION_DIM):
        raise ValueError(
            f"{path}: observation.state has {state} numbers and action {action}, which is "
            f"{robot_of(state, action)}; only policies of LIBERO (8 and 7) can be run here"
        )


def _width(raw: Mapping[str, Any], group: str, name: str) -> int | None:
    shape = mapping(mapping(raw.get(group)).get(name)).get("shape")
    if not isinstance(shape, list) or len(shape) != 1 or type(shape[0]) is not int:
        return None
    return shape[0]


def _refuse_two_spellings(path: Path, raw: Mapping[str, Any]) -> None:
    """Two keys that mean one setting must say the same."""
    for one, other in (
        ("num_inference_steps", "num_steps"),
        ("image_resolution", "resize_imgs_with_padding"),
    ):
        if None not in (raw.get(one), raw.get(other)) and raw[one] != raw[other]:
            raise ValueError(
                f"{path}: {one} is {raw[one]!r:.40} but {other}, its name before 0.4, is "
                f"{raw[other]!r:.40}; remove the wrong one"
            )


def _norm_mode(path: Path, norm_map: Any) -> str:
    settings = mapping(norm_map)
    modes = {str(settings.get(kind, "IDENTITY")) for kind in ("STATE", "ACTION")}
    if len(modes) > 1 or not modes <= NORM_MODES.keys():
        raise ValueError(
            f"{path}: states and actions must share one normalization of "
            f"{', '.join(NORM_MODES)}, got {', '.join(sorted(modes))}"
        )
    return NORM_MODES[modes.pop()]


def _norm_mode_of_both(pipelines: Pipelines) -> str:
    first, second = pipelines.norm_maps
    if first and second and first.get("ACTION") != second.get("ACTION"):
        raise ValueError(
            f"{pipelines.folder}: {PREPROCESSOR} normalizes actions by {first.get('ACTION')} but "
            f"{POSTPROCESSOR} by {second.get('ACTION')}; copy both again or set policy.overrides.norm_mode"
        )
    return _norm_mode(pipelines.folder / PREPROCESSOR, first or second)


def _is_relative_by_both(pipelines: Pipelines) -> bool:
    made, undone = map(bool, pipelines.relative)
    if made != undone:
        on, off = "enabled", "disabled or absent"
        raise ValueError(
            f"{pipelines.folder}: {PREPROCESSOR} has relative_actions_processor {on if made else off} but "
            f"{POSTPROCESSOR} has absolute_actions_processor {on if undone else off}; copy both again or "
            "set policy.overrides.extra_delta"
        )
    where = f"{pipelines.folder / PREPROCESSOR}: relative_actions_processor"
    return made and _leaves_the_gripper(where, pipelines.absolute_joints, pipelines.action_names)


def _is_relative_by_config(path: Path, raw: Mapping[str, Any]) -> bool:
    if not raw["use_relative_actions"]:
        return False
    absolute, names = (
        tuple(map(str, value)) if isinstance(value, list) else ()
        for value in (raw.get("relative_exclude_joints"), raw.get("action_feature_names"))
    )
    return _leaves_the_gripper(f"{path}: use_relative_actions", absolute, names)


def _leaves_the_gripper(where: str, absolute: tuple[str, ...], names: tuple[str, ...]) -> bool:
    """Return True if six of seven actions are relative; other choices cannot be expressed."""
    tokens = [token.lower() for token in absolute]
    stays = [any(token in name.lower() for token in tokens) for name in names]
    if stays != [False] * 6 + [True]:
        raise ValueError(
            f"{where} must leave exactly the gripper absolute, got {list(absolute)} absolute of the "
            f"actions {list(names)}; set policy.overrides.extra_delta"
        )
    return True


def _cameras(path: Path, images: list[str], renamed: Mapping[str, str]) -> tuple[str, ...]:
    """Return each camera once: pi0's own names of the images may stand beside those of the data."""
    cameras: dict[str, None] = {}
    for image in images:
        name = image.rpartition(".")[2]
        source = renamed.get(image, image).rpartition(".")[2]
        known = source if source in CAMERAS else name
        if known not in CAMERAS and not known.startswith("empty_camera"):
            raise ValueError(
                f"{path}: image {name!r} is no camera of LIBERO, known: "
                f"{', '.join(CAMERAS)}; set policy.overrides.cameras"
            )
        camera = CAMERAS.get(known)
        if camera is not None:
            cameras[camera] = None
    return tuple(cameras)
