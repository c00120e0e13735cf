"""A checkpoint folder of any layout -> everything that makes a policy, checked, not yet in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import PI0Config

from pi0.card import (
    PI05,
    PROTOCOL_OF_LAYOUT,
    PROTOCOLS,
    SHARED,
    Layout,
    PolicyCard,
    Protocol,
    read_policy_card,
)
from pi0.files import is_there, read_json
from pi0.formats.base import BASE, Base, read_base, split_adapters, with_base
from pi0.formats.conventions import check_conventions
from pi0.formats.evidence import CONFIG, Evidence, decide_layout, gather, refuse_other_models
from pi0.formats.facts import assumed_keys, card_facts, rounded_weights, stored_dtype
from pi0.formats.lerobot.config import image_resolution
from pi0.formats.matching import match_tensors
from pi0.formats.origins import origins_of_foreign, origins_of_native
from pi0.formats.sizes import image_size, read_sizes, tensor_shapes, with_card
from pi0.formats.spellings import DEAD_EMBEDDING, FINAL_NORM, WRITTEN, unwrapped
from pi0.formats.stats_files import find_norm_stats
from pi0.formats.tokenizer_files import check_vocabulary, find_tokenizer
from pi0.formats.weight_files import StoredTensor, open_weights
from pi0.model.architecture import is_pi05, unused_tensor_names
from pi0.norm_stats import NormStats, read_norm_stats

CARD_KEYS = tuple(each.name for each in fields(PolicyCard))
POLICY_CARD = "policy.json"
NORM_STATS = "norm_stats.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the user decides against the files; everything left out is taken from them.

    Example: ``Choices(protocol="lerobot", overrides={"horizon": 20})``.

    Attributes:
        protocol: Preset of pre- and post-processing; None takes the layout's.
        overrides: Keys of ``PolicyCard``.
        norm_stats_path: File or folder with the normalization statistics.
        tokenizer_path: File or folder with the tokenizer.
    """

    protocol: Protocol | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict[str, Any])
    norm_stats_path: Path | None = None
    tokenizer_path: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A checkpoint whose every file has been read and checked except the tensors themselves.

    Attributes:
        folder: Where it is.
        layout: How its tensors are named.
        card: What the policy is given of LIBERO.
        origins: Where each key of the card came from.
        config: Sizes of the network.
        stats: Normalization statistics.
        stats_source: The file they were read from.
        tokenizer: Of the instructions.
        shapes: Of every tensor of transformers' pi0, unused ones included.
        tensors: By transformers' names: all that the network uses, and unused ones if present.
        not_followed: What the files say and has no effect here, one line each.
        assumed: What they had to say and do not, one line each.
        base: What the policy was trained from, if the folder says it.
        sources: Bases that some of the tensors are read from, to be ``verified`` meanwhile.
    """

    folder: Path
    layout: Layout
    card: PolicyCard
    origins: Mapping[str, str]
    config: PI0Config
    stats: NormStats
    stats_source: str
    tokenizer: Tokenizer
    shapes: Mapping[str, tuple[int, ...]]
    tensors: Mapping[str, StoredTensor]
    not_followed: tuple[str, ...]
    assumed: tuple[str, ...]
    base: Base | None = None
    sources: tuple[Base, ...] = ()


def read_folder(folder: Path, choices: Choices) -> Contents:
    """Read and check a folder of any layout.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is wrong; the line names it and the remedy.
    """
    if is_there(folder / POLICY_CARD):
        return _read_native(folder, choices)
    evidence = gather(folder)
    layout = decide_layout(evidence)
    is_partial = FINAL_NORM not in evidence.weights.tensors
    if layout == "transformers" and (is_partial or evidence.is_pi05):
        # only the own layout leaves out what the network never uses; transformers has no pi0.5
        raise FileNotFoundError(
            f"{folder / POLICY_CARD} does not exist; the checkpoint folder is incomplete"
        )
    return _read_foreign(evidence, layout, choices)


def _read_foreign(evidence: Evidence, layout: Layout, choices: Choices) -> Contents:
    folder, raw = evidence.folder, evidence.config or {}
    resolution = image_resolution(folder / CONFIG, raw) if layout == "lerobot" else None
    sizes = read_sizes(folder / CONFIG, evidence.tree or raw, resolution, is_pi05=evidence.is_pi05)
    protocol = choices.protocol or PROTOCOL_OF_LAYOUT[layout]
    facts = card_facts(evidence, layout, choices.overrides)
    preset = _preset(protocol, is_pi05=evidence.is_pi05)
    keys = _merged({**SHARED, **preset}, facts.keys, choices.overrides)
    keys |= {"layout": layout, "protocol": protocol, "image_size": image_size(sizes)}
    card = _make_card(folder, {"dtype": "float32"} | keys)
    config = with_card(sizes, card)
    shapes = tensor_shapes(config)
    wanted = frozenset(shapes) - {DEAD_EMBEDDING}
    tensors = match_tensors(evidence.weights, evidence.spelling, shapes, wanted)
    if "dtype" not in keys:
        card = replace(card, dtype=stored_dtype(tensors))
    found = find_norm_stats(folder, card, evidence.weights, choices.norm_stats_path)
    check_conventions(folder, card, found.stats)
    tokenizer = find_tokenizer(folder, choices.tokenizer_path)
    check_vocabulary(tokenizer, config, folder, is_whole=True)
    return Contents(
        folder=folder,
        layout=layout,
        card=card,
        origins=origins_of_foreign(card, _chosen(choices), facts.sources, is_pi05=evidence.is_pi05),
        config=config,
        stats=found.stats,
        stats_source=found.source,
        tokenizer=tokenizer,
        shapes=shapes,
        tensors=tensors,
        not_followed=(
            *facts.not_followed,
            *found.not_followed,
            *rounded_weights(tensors, card.dtype),
        ),
        assumed=assumed_keys(evidence, card, choices.overrides),
    )


def _read_native(folder: Path, choices: Choices) -> Contents:
    card = read_policy_card(folder / POLICY_CARD)
    raw = read_json(folder / CONFIG)
    refuse_other_models(folder, raw)
    _refuse_foreign_config(folder, raw)
    _check_agreement(folder, card, read_sizes(folder / CONFIG, raw))
    keys = {key: getattr(card, key) for key in CARD_KEYS}
    if choices.protocol is not None:
        preset = _preset(choices.protocol, is_pi05=is_pi05(read_sizes(folder / CONFIG, raw)))
        keys = _merged({**keys, **preset, "protocol": choices.protocol}, {}, choices.overrides)
    card = _make_card(folder, {**keys, **choices.overrides})
    config = with_card(read_sizes(folder / CONFIG, raw), card)
    shapes = tensor_shapes(config)
    wanted = frozenset(shapes) - unused_tensor_names(config)
    base = read_base(folder)
    tokenizer = find_tokenizer(folder, choices.tokenizer_path)
    if choices.norm_stats_path:
        found = find_norm_stats(folder, card, None, choices.norm_stats_path)
        stats, stats_source = found.stats, found.source
    else:
        stats, stats_source = read_norm_stats(folder / NORM_STATS, card), str(folder / NORM_STATS)
    check_conventions(folder, card, stats)
    check_vocabulary(tokenizer, config, folder, is_whole=False)
    tensors, sources = _own_tensors(folder, base, shapes, wanted)
    return Contents(
        folder=folder,
        layout="native",
        card=card,
        origins=origins_of_native(
            card, _chosen(choices), POLICY_CARD, choices.protocol, is_pi05=is_pi05(config)
        ),
        config=config,
        stats=stats,
        stats_source=stats_source,
        tokenizer=tokenizer,
        shapes=shapes,
        tensors=tensors,
        not_followed=(),
        assumed=(),
        base=base,
        sources=sources,
    )


def _chosen(choices: Choices) -> dict[str, Any]:
    return {**choices.overrides, **({"protocol": choices.protocol} if choices.protocol else {})}


def _own_tensors(
    folder: Path,
    base: Base | None,
    shapes: Mapping[str, tuple[int, ...]],
    wanted: frozenset[str],
    above: tuple[Path, ...] = (),
) -> tuple[Mapping[str, StoredTensor], tuple[Base, ...]]:
    """Return the tensors of the own layout, those that training left alone from the base, and the bases read from.

    ``above`` are the folders that this one is the base of.
    """
    weights = unwrapped(open_weights(folder))
    if base is None:
        return match_tensors(weights, WRITTEN["native"], shapes, wanted), ()
    adapters, whole = split_adapters(weights)
    own = match_tensors(whole, WRITTEN["native"], shapes, frozenset[str]())
    missing = (wanted - own.keys()) | adapters.keys()
    if not missing:
        return own, ()
    if base.path in (folder.resolve(), *above):
        raise ValueError(f"{folder / BASE} names a base that needs this policy; copy it again")
    base.check_sizes()
    below, sources = _tensors_of(base.path, shapes, missing, (folder.resolve(), *above))
    return with_base(own, adapters, below), (base, *sources)


def _tensors_of(
    folder: Path,
    shapes: Mapping[str, tuple[int, ...]],
    wanted: frozenset[str],
    above: tuple[Path, ...],
) -> tuple[Mapping[str, StoredTensor], tuple[Base, ...]]:
    """Return the tensors of a folder of any layout, and the bases they are read from."""
    if is_there(folder / POLICY_CARD):
        return _own_tensors(folder, read_base(folder), shapes, wanted, above)
    evidence = gather(folder)
    return match_tensors(evidence.weights, evidence.spelling, shapes, wanted), ()


def _refuse_foreign_config(folder: Path, raw: Mapping[str, Any]) -> None:
    if raw.get("model_type") != "pi0" or "type" in raw:
        raise ValueError(
            f"{folder}: its files disagree on who wrote it: {POLICY_CARD} is of pi0-ript, but "
            f"{CONFIG} is not (its model_type must be 'pi0'); remove the one that does not belong to these "
            "weights"
        )


def _preset(protocol: Protocol, *, is_pi05: bool) -> dict[str, Any]:
    return {**PROTOCOLS[protocol], **(PI05[protocol] if is_pi05 else {})}


def _merged(
    preset: Mapping[str, Any], facts: Mapping[str, Any], overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the keys of a card, the last mention winning; a preset never outruns the horizon."""
    said = {**facts, **overrides}
    keys = {**preset, **said}
    if "execute_steps" not in said and isinstance(keys["horizon"], int):
        keys["execute_steps"] = min(keys["execute_steps"], keys["horizon"])
    return keys


def _make_card(folder: Path, keys: Mapping[str, Any]) -> PolicyCard:
    try:
        return PolicyCard(**keys)
    except TypeError:
        unknown = ", ".join(sorted(keys.keys() - set(CARD_KEYS)))
        raise ValueError(
            f"unknown policy override {unknown}; allowed: {', '.join(CARD_KEYS)}"
        ) from None
    except ValueError as error:
        raise ValueError(f"{folder}: policy card: {error}; set policy.overrides") from None


def _check_agreement(folder: Path, card: PolicyCard, config: PI0Config) -> None:
    """The own layout holds sizes twice; they must agree."""
    agreements = {
        "horizon": ("chunk_size", config.chunk_size),
        "action_dim": ("max_action_dim", config.max_action_dim),
        "state_dim": ("max_state_dim", config.max_state_dim),
        "image_size": ("vision_config.image_size", image_size(config)),
    }
    for key, (name, value) in agreements.items():
        if getattr(card, key) != value:
            raise ValueError(
                f"{folder / CONFIG}: {name} is {value} but {POLICY_CARD} says {key} "
                f"{getattr(card, key)}; they must agree"
            )
