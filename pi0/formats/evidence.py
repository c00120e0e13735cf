"""Who wrote a checkpoint, from everything that lies in its folder.

No single file tells: LeRobot's published ports have openpi's names, copies lack files, and what wrappers
of modules put into names depends on how a model was trained. All of it is gathered first. Then a layout is the
one that every clue allows; clues that exclude each other are refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi0.card import Layout
from pi0.files import is_there, read_json
from pi0.formats.jax.orbax import find_params, open_arrays
from pi0.formats.jax.sizes import sizes_of_tree
from pi0.formats.jax.tree import to_openpi
from pi0.formats.lerobot.pipelines import PREPROCESSOR, Pipelines, read_pipelines
from pi0.formats.matching import (
    BESIDE_POLICY,
    STATISTICS,
    is_pi05,
    refuse_relatives,
    refuse_strangers,
    tensors_beside,
)
from pi0.formats.remains import ADAPTERS, is_orbax
from pi0.formats.spellings import Spelling, find_spelling, unwrapped
from pi0.formats.stats_files import PROCESSOR
from pi0.formats.weight_files import WeightFiles, open_weights, weights_present
from pi0.model.architecture import PI05_KEY

CONFIG = "config.json"
TRAINING_OF_LEROBOT = "train_config.json"

# Where nothing else decides, the first of these that all clues allow.
_PREFERENCE: tuple[Layout, ...] = (
    "openpi", "rlinf", "lerobot", "transformers_saved", "transformers",
)  # fmt: skip
_OF_OPENPI: frozenset[Layout] = frozenset({"openpi", "rlinf"})
_OF_LEROBOT: frozenset[Layout] = frozenset({"lerobot"})
_OF_TRANSFORMERS: frozenset[Layout] = frozenset({"transformers", "transformers_saved"})
# Keys that only one project writes.
_LEROBOT_KEYS = ("type", "n_action_steps", "normalization_mapping", "input_features")
_OPENPI_KEYS = ("action_horizon", "action_dim", "precision")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything in a folder that says who wrote it, and under which library.

    Attributes:
        folder: Where it is.
        weights: Its tensors, without what wrappers put into their names.
        is_pi05: Whether they are those of a pi0.5.
        spelling: How they are named.
        config: Its config.json, None where there is none.
        pipelines: Those of LeRobot, None where there are none.
        processor: transformers' processor_config.json, None where there is none.
        tree: The sizes that a JAX tree tells, in transformers' words; None where there is none.
        beside: What lies there and is not read, one line each.
        has_training_of_lerobot: Whether a run of LeRobot left its configuration.
    """

    folder: Path
    weights: WeightFiles
    is_pi05: bool
    spelling: Spelling
    config: Mapping[str, Any] | None
    pipelines: Pipelines | None
    processor: Mapping[str, Any] | None
    tree: Mapping[str, Any] | None
    beside: tuple[str, ...]
    has_training_of_lerobot: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Clue:
    """One thing that only some projects write.

    Attributes:
        text: What it is, for messages.
        layouts: Who may have written it.
    """

    text: str
    layouts: frozenset[Layout]


def gather(folder: Path) -> Evidence:
    """Read everything but the tensors' values.

    Raises:
        FileNotFoundError: There are no weights, or what lies there cannot be read.
        ValueError: They are of another model, or a file is damaged.
    """
    config = read_json(folder / CONFIG) if is_there(folder / CONFIG) else None
    refuse_other_models(folder, config or {})
    weights, tree = _open(folder)
    names = sorted(weights.tensors)
    has_pi05 = is_pi05(weights.path, names)
    _refuse_two_models(folder, config or {}, weights, is_pi05=has_pi05)
    refuse_relatives(weights.path, names)
    spelling = find_spelling(names)
    refuse_strangers(weights.path, spelling, names)
    has_processor = is_there(folder / PROCESSOR)
    return Evidence(
        folder=folder,
        weights=weights,
        is_pi05=has_pi05,
        spelling=spelling,
        config=config,
        pipelines=read_pipelines(folder),
        processor=read_json(folder / PROCESSOR) if has_processor else None,
        tree=tree,
        beside=(*tensors_beside(weights), *(() if tree else _files_beside(folder))),
        has_training_of_lerobot=is_there(folder / TRAINING_OF_LEROBOT),
    )


def _open(folder: Path) -> tuple[WeightFiles, Mapping[str, Any] | None]:
    """Return the tensors, and the sizes of a JAX tree if only that is there."""
    params = None if weights_present(folder) else find_params(folder)
    if params is None:
        return unwrapped(open_weights(folder)), None
    arrays = open_arrays(params)
    return WeightFiles(path=params, tensors=to_openpi(params, arrays)), sizes_of_tree(arrays)


def decide_layout(evidence: Evidence) -> Layout:
    """Return who wrote a folder.

    Raises:
        FileNotFoundError: They always write a config.json, and there is none.
        ValueError: Two clues exclude each other; both are named.
    """
    if evidence.tree is not None:
        return "jax"
    clues = _clues(evidence)
    for position, clue in enumerate(clues):
        for earlier in clues[:position]:
            if not clue.layouts & earlier.layouts:
                raise ValueError(
                    f"{evidence.folder}: its files disagree on who wrote it: {earlier.text}, but "
                    f"{clue.text}; remove the one that does not belong to these weights"
                )
    layouts: list[Layout] = [
        each for each in _PREFERENCE if all(each in clue.layouts for clue in clues)
    ]
    if not layouts:
        listed = "; ".join(clue.text for clue in clues)
        raise ValueError(f"{evidence.folder}: its files disagree on who wrote it: {listed}")
    layout = layouts[0]
    if evidence.config is None and layout not in _OF_OPENPI:
        raise FileNotFoundError(
            f"{evidence.folder / CONFIG} does not exist; a folder of {layout} has its settings there "
            f"({next(clue.text for clue in clues if not clue.layouts & _OF_OPENPI)}), copy it too"
        )
    return layout


def refuse_other_models(folder: Path, raw: Mapping[str, Any]) -> None:
    """Raise ValueError, with what to do, for the configuration of one of pi0's relatives."""
    kind = raw.get("type", raw.get("model_type"))
    if kind not in (None, "pi0", "pi05"):
        raise ValueError(
            f"{folder / CONFIG}: model_type must be 'pi0' or 'pi05', got {kind!r}; "
            "pi0-FAST and other models cannot be loaded"
        )


def _refuse_two_models(
    folder: Path, raw: Mapping[str, Any], weights: WeightFiles, *, is_pi05: bool
) -> None:
    """Openpi's files do not say which of the two models they are of, all others do."""
    says = {"pi05": True, "pi0": False, True: True, False: False}
    for key in ("type", "model_type", PI05_KEY):
        said = says.get(raw.get(key))
        if said is not None and said != is_pi05:
            held = "pi0.5" if is_pi05 else "pi0"
            raise ValueError(
                f"{folder}: its files disagree on what it is: {CONFIG} says {key} {raw[key]!r}, but "
                f"{weights.path.name} holds {held}; remove the one that does not belong to these weights"
            )


def _clues(evidence: Evidence) -> list[Clue]:
    weights, config = evidence.weights, evidence.config or {}
    names = evidence.spelling.text
    first = min(weights.tensors)
    clues = [
        Clue(
            text=f"{weights.path.name} has {names} (first {first})",
            layouts=evidence.spelling.layouts,
        )
    ]
    if weights.is_rlinf:
        clues.append(
            Clue(text=f"only RLinf writes {weights.path.name}", layouts=frozenset({"rlinf"}))
        )
    for heads, whose, layouts in (
        (STATISTICS, "statistics of LeRobot before 0.4", _OF_LEROBOT),
        (tuple(BESIDE_POLICY), "heads of RLinf", _OF_OPENPI),
    ):
        found = next((name for name in weights.tensors if name.startswith(heads)), None)
        if found is not None:
            clues.append(Clue(text=f"{weights.path.name} holds {whose} ({found})", layouts=layouts))
    clues += _clues_of_config(config)
    if evidence.pipelines is not None:
        text = f"{PREPROCESSOR} is of LeRobot"
        clues.append(Clue(text=text, layouts=_OF_LEROBOT | _OF_TRANSFORMERS))
    if evidence.has_training_of_lerobot:
        clues.append(Clue(text=f"{TRAINING_OF_LEROBOT} is of LeRobot", layouts=_OF_LEROBOT))
    if (evidence.processor or {}).get("processor_class") == "PI0Processor":
        text = f"{PROCESSOR} is of transformers"
        clues.append(Clue(text=text, layouts=_OF_LEROBOT | _OF_TRANSFORMERS))
    return clues


def _clues_of_config(config: Mapping[str, Any]) -> list[Clue]:
    clues: list[Clue] = []
    of_lerobot = [key for key in _LEROBOT_KEYS if key in config]
    of_openpi = [key for key in _OPENPI_KEYS if key in config]
    if of_lerobot:
        # a configuration of LeRobot to which transformers' model_type was added is still read by both
        both = _OF_LEROBOT | _OF_TRANSFORMERS if "model_type" in config else _OF_LEROBOT
        clues.append(Clue(text=f"{CONFIG} is of LeRobot (key {of_lerobot[0]!r})", layouts=both))
    elif "model_type" in config:
        clues.append(
            Clue(text=f"{CONFIG} is of transformers (key 'model_type')", layouts=_OF_TRANSFORMERS)
        )
    if of_openpi:
        clues.append(Clue(text=f"{CONFIG} is of openpi (key {of_openpi[0]!r})", layouts=_OF_OPENPI))
    return clues


def _files_beside(folder: Path) -> list[str]:
    lines = [
        f"{name}: an adapter beside whole weights, which are read without it"
        for name in ADAPTERS
        if is_there(folder / name)
    ]
    if is_there(folder / TRAINING_OF_LEROBOT):
        lines.append(f"{TRAINING_OF_LEROBOT}: settings of a training run")
    return [*lines, *(["params: weights of JAX beside those that are read"] * is_orbax(folder))]
