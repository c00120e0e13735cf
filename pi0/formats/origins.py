"""Where each key of a policy card came from, in words for the one who wonders about it."""

from collections.abc import Mapping
from dataclasses import fields

from pi0.card import PI05, PROTOCOLS, PolicyCard, Protocol

CHOSEN = "chosen by you"


def origins_of_foreign(
    card: PolicyCard, chosen: Mapping[str, object], said: Mapping[str, str], *, is_pi05: bool
) -> dict[str, str]:
    """Return the origin of every key of the card of another project's folder.

    Args:
        card: The card that was made.
        chosen: What the user decided: overrides, and ``protocol`` where one was given.
        said: Keys that the folder's files fix -> the file.
        is_pi05: Whether its weights are of pi0.5.
    """
    preset = _preset_keys(card.protocol, is_pi05=is_pi05)
    own = {
        "layout": "names of the tensors",
        "protocol": "usual for this layout",
        "dtype": "as the weights are stored",
        "image_size": "sizes of the network",
    }
    keys = [field.name for field in fields(PolicyCard)]
    shared = dict.fromkeys(keys, "the same in both presets")
    return {**shared, **preset, **own, **said, **dict.fromkeys(chosen, CHOSEN)}


def origins_of_native(
    card: PolicyCard,
    chosen: Mapping[str, object],
    path: str,
    preset: Protocol | None,
    *,
    is_pi05: bool,
) -> dict[str, str]:
    """Return the same of a folder of our own, which holds its card in ``path``."""
    stored = {field.name: path for field in fields(PolicyCard)}
    replaced = _preset_keys(card.protocol, is_pi05=is_pi05) if preset else {}
    return {**stored, **replaced, **dict.fromkeys(chosen, CHOSEN)}


def _preset_keys(protocol: Protocol, *, is_pi05: bool) -> dict[str, str]:
    keys = {**PROTOCOLS[protocol], **(PI05[protocol] if is_pi05 else {})}
    return dict.fromkeys(keys, f"preset {protocol}{' of pi0.5' if is_pi05 else ''}")
