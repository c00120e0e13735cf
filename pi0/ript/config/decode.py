"""Plain data -> the frozen dataclasses of the schema, strictly and with one-line errors.

draccus writes configurations (``encode``); reading is ours because its decoders take ``abc`` for a list
of letters, turn task index 3 into the name "3" and hide the messages of ``__post_init__``.
"""

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from pi0.ript.config.base import ConfigError
from pi0.ript.config.yaml_text import parse_yaml

T = TypeVar("T")

# What other trainers call a setting whose name here is not spelled alike.
ELSEWHERE = {
    "algo.demo_batch_size": "num_groups groups_per_step num_contexts prompts_per_step",
    "algo.lr": "learning_rate actor_lr policy_lr",
    "algo.micro_batch_size": "gradient_accumulation_steps per_device_train_batch_size",
    "algo.num_epochs": "epochs ppo_epochs update_epochs num_ppo_epochs",
    "algo.reference_weight": "kl_coef kl_beta kl_weight kl_loss_coef",
    "algo.rloo_batch_size": "k group_size num_generations rollouts_per_group n_samples",
    "env.backend": "use_ray vec_env",
    "evaluation.every": "eval_freq eval_interval eval_steps",
    "evaluation.rollouts_per_task": "num_eval_episodes eval_episodes",
    "policy.denoise_steps": "num_inference_steps num_denoising_steps denoising_steps",
    "policy.overrides.dtype": "precision bf16 torch_dtype",
    "policy_path": "checkpoint checkpoint_path pretrained_path model_path",
    "task.benchmark_name": "suite task_suite task_suite_name benchmark",
    "task.max_episode_length": "max_steps max_episode_steps episode_length",
    "task.num_parallel_envs": "num_envs n_envs num_environments",
    "training.num_train_steps": "steps num_steps total_steps max_train_steps num_iterations total_iterations",
    "training.save_freq": "save_interval save_steps save_every checkpoint_every",
    "video.save": "save_video record_video",
}

_MISSPELT = 0.9  # likeness from which on a key is taken for a misspelt one

_NAMES: dict[object, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    NoneType: "null",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """A value typed on the command line: its meaning depends on the type of the field."""

    text: str


def read_text(raw: Raw, key: str) -> object:
    """Return what command-line text means as YAML.

    Raises:
        ConfigError: It is not YAML; names the key.
    """
    try:
        return parse_yaml(raw.text)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}, got {raw.text!r}") from error


def decode_config(kind: type[T], data: object) -> T:
    """Return ``kind`` filled from nested mappings; missing keys take their defaults.

    Raises:
        ConfigError: An unknown key, a value of a wrong type or a value out of bounds.
    """
    return _section(kind, data, "", known_keys(kind))


def known_keys(kind: type) -> tuple[str, ...]:
    """Return every dotted key of a schema, sections included, in the order of the schema."""
    return tuple(_walk(kind, ""))


def unknown_key(dotted: str, keys: tuple[str, ...]) -> ConfigError:
    """Return the error for a key that is none of ``keys``; names the one that is probably meant."""
    return ConfigError(f"unknown key {dotted!r}; did you mean {meant(dotted, keys)!r}?")


def meant(name: str, candidates: tuple[str, ...]) -> str:
    """Return the setting that is probably meant by a name that is none of them, dotted or not: misspelt, or of elsewhere."""
    near, leaf = nearest(name, candidates), name.split(".")[-1].lower()
    if likeness(name, near) >= _MISSPELT:
        return near
    ours = [key for key, names in ELSEWHERE.items() if leaf in names.split()]
    ours += [key.split(".")[-1].removesuffix("_path") for key in ours]  # of a flag
    return next((key for key in ours if key in candidates), near)


def nearest(name: str, candidates: tuple[str, ...]) -> str:
    """Return the candidate that ``name`` is spelled most like; a right name in a wrong section counts."""

    def rank(candidate: str) -> float:
        leaves = likeness(name.split(".")[-1], candidate.split(".")[-1])
        return max(likeness(name, candidate), 0.95 * leaves)

    return max(candidates, key=rank)


def likeness(one: str, other: str) -> float:
    """Return how alike two words are spelled, in [0, 1]."""
    return difflib.SequenceMatcher(None, one, other).ratio()


def describe(kind: object) -> str:
    """Return what a field of this type accepts, in words: ``a whole number or null``."""
    if get_origin(kind) is Literal:
        choices = [str(choice) for choice in get_args(kind)]
        return "one of " + ", ".join(choices) if len(choices) > 1 else choices[0]
    if get_origin(kind) is tuple:
        return f"a list, each item {describe(get_args(kind)[0])}"
    return " or ".join(
        _NAMES[member] if member in _NAMES else describe(member) for member in _members(kind)
    )


def _walk(kind: type, prefix: str) -> Iterator[str]:
    for name, hint in get_type_hints(kind).items():
        yield prefix + name
        if is_dataclass(hint):
            yield from _walk(cast("type", hint), f"{prefix}{name}.")


def _section(kind: type[T], data: object, path: str, keys: tuple[str, ...]) -> T:
    if isinstance(data, Raw):
        raise ConfigError(
            f"{path} is a section, got {data.text!r}; name one of its keys: {path}.<key>"
        )
    if data is None:  # a section whose keys are all commented out
        data = {}
    if not isinstance(data, Mapping):
        where = path or "the configuration"
        raise ConfigError(f"{where} must be a section with keys, got {data!r}")
    values = cast("Mapping[object, object]", data)
    prefix = f"{path}." if path else ""
    hints = get_type_hints(kind)
    for key in values:
        if key not in hints:
            dotted = f"{prefix}{key}"
            raise unknown_key(dotted, keys)
    arguments: dict[str, object] = {}
    for field in fields(kind):  # pyright: ignore[reportArgumentType] - every section is a dataclass
        if field.name in values:
            dotted, hint = prefix + field.name, hints[field.name]
            value = values[field.name]
            is_section = is_dataclass(hint)
            arguments[field.name] = (
                _section(cast("type", hint), value, dotted, keys)
                if is_section
                else _value(hint, value, dotted)
            )
    try:
        return kind(**arguments)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _value(kind: object, raw: object, key: str) -> object:
    value = _interpret(kind, raw, key) if isinstance(raw, Raw) else raw
    for member in _members(kind):
        accepted, result = _try(member, value, key)
        if accepted:
            return result
    message = f"{key} must be {describe(kind)}, got {value!r}"
    if get_origin(kind) is Literal and isinstance(value, str):
        message += f"; did you mean {nearest(value, tuple(map(str, get_args(kind))))!r}?"
    raise ConfigError(message)


def _interpret(kind: object, raw: Raw, key: str) -> object:
    """Read command-line text: as YAML, except that a text field takes it as it stands."""
    members = _members(kind)
    try:
        value = "" if raw.text == "" else read_text(raw, key)
    except ConfigError:
        if str in members:
            return raw.text
        raise
    if str in members and type(value) not in members:
        return raw.text
    return value


def _members(kind: object) -> tuple[object, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _try(kind: object, value: object, key: str) -> tuple[bool, object]:
    """Return whether ``value`` is of this type, and the value as the field stores it."""
    if kind is float:
        number = _number(value)
        return number is not None, number
    if get_origin(kind) is Literal:
        choice = _choice(get_args(kind), value)
        return choice is not None, choice
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            return False, None
        items = cast("list[object]", value)
        item_kind = get_args(kind)[0]
        return True, tuple(_value(item_kind, item, f"{key}[{i}]") for i, item in enumerate(items))
    # Exact, not isinstance: True is no whole number.
    return isinstance(kind, type) and type(value) is kind, value


def _choice(choices: tuple[object, ...], value: object) -> object:
    """Return the choice that ``value`` is, in type too ("1 == True" in Python); text may look like a number."""
    text = str(value) if type(value) is int else None
    same = (one for one in choices if (type(one) is type(value) and one == value) or one == text)
    return next(same, None)


def _number(value: object) -> float | None:
    """Return a finite float from a number or from quoted text such as '1e-5'; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
