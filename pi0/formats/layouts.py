"""The names that pi0's tensors have in each layout, and which of them the network uses.

Names are compared after translation to those of transformers' ``PI0ForConditionalGeneration``. No tensor
is transposed, split or scaled by any layout.
"""

from collections.abc import Mapping
from pathlib import Path

from pi0.card import Layout
from pi0.formats.weight_files import StoredTensor, WeightFiles

Renaming = tuple[tuple[str, str], ...]

EMBEDDING = "model.vlm.language_model.embed_tokens.weight"
DEAD_EMBEDDING = "model.dit.embed_tokens.weight"
FINAL_NORM = "model.vlm.language_model.norm.weight"
_PROJECTIONS = ("state_proj", "action_in_proj", "action_time_mlp_in", "action_time_mlp_out")
_VLM = "paligemma_with_expert.paligemma."
_EXPERT = "paligemma_with_expert.gemma_expert."

_SAME: Renaming = tuple(
    (name, name) for name in ("model.vlm.", "model.dit.", "embed_action_time.", "action_out_proj.")
)

# LeRobot before 0.4 kept its statistics beside the weights.
STATISTICS = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")


def _openpi_like(*, vision: str, language: str, prefix: str = "") -> Renaming:
    pairs = [
        (f"{_VLM}model.vision_tower.{vision}", "model.vlm.vision_tower."),
        (f"{_VLM}model.multi_modal_projector.", "model.vlm.multi_modal_projector."),
        (f"{_VLM}model.language_model.{language}", "model.vlm.language_model."),
        (f"{_EXPERT}lm_head.weight", DEAD_EMBEDDING),
        (f"{_EXPERT}model.", "model.dit."),
        ("action_out_proj.", "action_out_proj."),
    ]
    pairs += [(f"{name}.", f"embed_action_time.{name}.") for name in _PROJECTIONS]
    head = (f"{_VLM}lm_head.weight", EMBEDDING)
    # the word embedding has two names; safetensors.save_model keeps the head's, transformers its own
    pairs = [*pairs, head] if language else [head, *pairs]
    return tuple((prefix + there, here) for there, here in pairs)


_OPENPI = _openpi_like(vision="vision_model.", language="")
RENAMINGS: Mapping[Layout, Renaming] = {
    "native": _SAME,
    "transformers": _SAME,
    "transformers_saved": _openpi_like(vision="", language="model."),
    "openpi": _OPENPI,
    "rlinf": _OPENPI,
    "lerobot": _openpi_like(vision="vision_model.", language="", prefix="model."),
}


def detect_layout(weights: WeightFiles) -> Layout:
    """Return the layout that the names of the tensors have.

    Raises:
        ValueError: They belong to another model.
    """
    names = sorted(weights.tensors)
    _refuse_relatives(weights.path, names)
    if any(name.startswith("model.paligemma_with_expert.") for name in names):
        return "lerobot"
    if any(name.startswith("paligemma_with_expert.") for name in names):
        if any(name.startswith(f"{_VLM}model.language_model.model.") for name in names):
            return "transformers_saved"
        return "rlinf" if weights.is_rlinf else "openpi"
    if any(name.startswith("model.vlm.") for name in names):
        return "transformers"
    first = names[0] if names else "none"
    raise ValueError(
        f"{weights.path} holds no pi0: {len(names)} tensors, first {first}; "
        "give a pi0 folder of openpi, LeRobot, RLinf or transformers"
    )


def translate(name: str, layout: Layout) -> str | None:
    """Return transformers' name of a tensor of a layout, or None for a tensor of no pi0."""
    for there, here in RENAMINGS[layout]:
        if name.startswith(there):
            return here + name[len(there) :]
    return None


def name_in(layout: Layout, name: str) -> str:
    """Return the name that a layout has for a tensor of transformers."""
    for there, here in RENAMINGS[layout]:
        if name.startswith(here):
            return there + name[len(here) :]
    raise AssertionError(f"{name} is no tensor of transformers' pi0")


def match_tensors(
    weights: WeightFiles,
    layout: Layout,
    shapes: Mapping[str, tuple[int, ...]],
    wanted: frozenset[str],
) -> dict[str, StoredTensor]:
    """Account for every tensor: used once, or known to be unused, or the second name of a tied one.

    Args:
        weights: What the files hold.
        layout: How they name it.
        shapes: Shapes of all tensors of transformers' pi0, unused ones included.
        wanted: The names among ``shapes`` that must be there.

    Returns:
        The tensors of the network by transformers' names, unused ones of the file included.
    """
    found: dict[str, list[str]] = {}
    for name in weights.tensors:
        known = translate(name, layout)
        if known is None or known not in shapes:
            if not name.startswith(STATISTICS) or layout != "lerobot":
                raise ValueError(_unknown(weights, layout, shapes))
            continue
        found.setdefault(known, []).append(name)
    missing = sorted(name_in(layout, name) for name in wanted - found.keys())
    if missing:
        raise ValueError(
            f"{weights.path}: {len(missing)} of {len(wanted)} tensors are missing, "
            f"first {missing[0]}; is it a checkpoint of another layout or cut off?"
        )
    for known, names in found.items():
        _check_twins(weights, known, names)
        for name in names:
            _check_shape(name, weights.tensors[name], shapes[known])
    return {known: weights.tensors[names[0]] for known, names in found.items()}


def _check_twins(weights: WeightFiles, known: str, names: list[str]) -> None:
    if len(names) == 1 or known == DEAD_EMBEDDING:
        return
    first, second = (weights.tensors[name].read() for name in names[:2])
    if len(names) > 2 or known != EMBEDDING or not first.equal(second):
        raise ValueError(
            f"{weights.path}: {names[0]} and {names[1]} are one tensor of pi0 but differ; "
            "remove the wrong one"
        )


def _check_shape(name: str, tensor: StoredTensor, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape:
        raise ValueError(
            f"{tensor.path}: tensor {name} has shape {tensor.shape}, config.json asks for "
            f"{shape}; does config.json belong to these weights?"
        )


def _unknown(weights: WeightFiles, layout: Layout, shapes: Mapping[str, tuple[int, ...]]) -> str:
    unknown = sorted(
        name for name in weights.tensors if (translate(name, layout) or "") not in shapes
    )
    return (
        f"{weights.path}: {len(unknown)} tensors are unknown, first {unknown[0]}; "
        "does config.json belong to these weights?"
    )


def _refuse_relatives(path: Path, names: list[str]) -> None:
    bare = [name.removeprefix("model.") for name in names]
    for name in bare:
        if name.startswith("time_mlp_in.") or (_EXPERT in name and ".dense." in name):
            raise ValueError(
                f"{path} holds pi0.5 (tensor {name}); only pi0 can be loaded, "
                "use a pi0 checkpoint such as openpi's pi0_libero"
            )
    is_pi0_like = any(name.startswith("paligemma_with_expert.") for name in bare)
    if is_pi0_like and not any(name.startswith("action_in_proj.") for name in bare):
        raise ValueError(
            f"{path} has no action_in_proj: a pi0-FAST or a bare PaliGemma; only pi0 can be loaded"
        )
