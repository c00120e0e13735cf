"""How the projects, and the versions of their libraries, spell the names of the tensors of pi0 and pi0.5.

Names are compared after translation to those of transformers' ``PI0ForConditionalGeneration``, to which pi0.5's own
are added (``pi0.model.architecture``). No tensor is transposed, split or scaled by any spelling.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pi0.card import Layout
from pi0.formats.weight_files import StoredTensor, WeightFiles

Renaming = tuple[tuple[str, str], ...]

EMBEDDING = "model.vlm.language_model.embed_tokens.weight"
DEAD_EMBEDDING = "model.dit.embed_tokens.weight"
FINAL_NORM = "model.vlm.language_model.norm.weight"
EXPERT = "paligemma_with_expert.gemma_expert."

_VLM = "paligemma_with_expert.paligemma."
_PROJECTIONS = ("state_proj", "action_in_proj", "action_time_mlp_in", "action_time_mlp_out")
_PROJECTIONS += ("time_mlp_in", "time_mlp_out")  # pi0.5
# What DistributedDataParallel, torch.compile, FSDP and activation checkpointing put into a name. No
# tensor of pi0 has such a part.
_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """One way to name the tensors.

    Attributes:
        text: Whose way, for messages.
        layouts: Who writes so.
        renaming: (begin of a name there, begin of transformers' name); the first that fits holds.
    """

    text: str
    layouts: frozenset[Layout]
    renaming: Renaming

    def translate(self, name: str) -> str | None:
        """Return transformers' name of a tensor, or None for a tensor of no pi0."""
        for there, here in self.renaming:
            if name.startswith(there):
                return here + name[len(there) :]
        return None

    def name_of(self, name: str) -> str:
        """Return what a tensor of transformers is called here."""
        for there, here in self.renaming:
            if name.startswith(here):
                return there + name[len(here) :]
        raise AssertionError(f"{name} is no tensor of transformers' pi0")

    def strangers(self, names: Iterable[str]) -> list[str]:
        """Return the names that are spelled otherwise."""
        return [name for name in names if self.translate(name) is None]


def _openpi_like(*, vision: str, projector: str, language: str) -> Renaming:
    parts = {vision: "vision_tower.", projector: "multi_modal_projector."}
    pairs = [(_VLM + there, f"model.vlm.{here}") for there, here in parts.items()]
    pairs += [(_VLM + language, "model.vlm.language_model.")]
    pairs += [(f"{EXPERT}lm_head.weight", DEAD_EMBEDDING), (f"{EXPERT}model.", "model.dit.")]
    pairs += [(f"{name}.", f"embed_action_time.{name}.") for name in _PROJECTIONS]
    return (*pairs, ("action_out_proj.", "action_out_proj."))


def _spelling(text: str, layouts: tuple[Layout, ...], renaming: Renaming) -> Spelling:
    return Spelling(text=text, layouts=frozenset(layouts), renaming=renaming)


# The word embedding has two names: safetensors' save_model keeps the head's, transformers its own. The first
# one of a spelling is written.
_HEAD = (f"{_VLM}lm_head.weight", EMBEDDING)
_OLD_HEAD = (f"{_VLM}language_model.lm_head.weight", EMBEDDING)

OPENPI = _spelling(
    "openpi's names",
    ("openpi", "rlinf", "lerobot"),
    (
        _HEAD,
        *_openpi_like(
            vision="model.vision_tower.vision_model.",
            projector="model.multi_modal_projector.",
            language="model.language_model.",
        ),
    ),
)
# transformers 5 has no module vision_model any more.
_FLAT = _spelling(
    "openpi's names without vision_model",
    ("openpi", "rlinf", "lerobot"),
    (
        _HEAD,
        *_openpi_like(
            vision="model.vision_tower.",
            projector="model.multi_modal_projector.",
            language="model.language_model.",
        ),
    ),
)
BEFORE_4_52 = _spelling(
    "names of transformers before 4.52",
    ("openpi", "rlinf", "lerobot"),
    (
        _OLD_HEAD,
        *_openpi_like(
            vision="vision_tower.vision_model.",
            projector="multi_modal_projector.",
            language="language_model.model.",
        ),
    ),
)
SAVED = _spelling(
    "names of transformers' save_pretrained",
    ("transformers_saved",),
    (
        *_openpi_like(
            vision="model.vision_tower.",
            projector="model.multi_modal_projector.",
            language="model.language_model.model.",
        ),
        _HEAD,
    ),
)
TRANSFORMERS = _spelling(
    "names of transformers",
    ("native", "transformers"),
    tuple(
        (name, name)
        for name in ("model.vlm.", "model.dit.", "embed_action_time.", "action_out_proj.")
    ),
)


def _of_lerobot(spelling: Spelling) -> Spelling:
    """Return the spelling of the same modules inside LeRobot's policy class."""
    return Spelling(
        text=f"LeRobot's prefix 'model.' before {spelling.text}",
        layouts=frozenset({"lerobot"}),
        renaming=tuple((f"model.{there}", here) for there, here in spelling.renaming),
    )


LEROBOT = _of_lerobot(OPENPI)
# The flat names come last: their begins are also those of others, whose names continue otherwise.
SPELLINGS = (
    OPENPI, LEROBOT, BEFORE_4_52, _of_lerobot(BEFORE_4_52), SAVED, TRANSFORMERS, _FLAT, _of_lerobot(_FLAT),
)  # fmt: skip
# How a layout is written; reading decides by the names that are there.
WRITTEN: Mapping[Layout, Spelling] = {
    "native": TRANSFORMERS,
    "transformers": TRANSFORMERS,
    "transformers_saved": SAVED,
    "openpi": OPENPI,
    "rlinf": OPENPI,
    "jax": OPENPI,
    "lerobot": LEROBOT,
}


def find_spelling(names: Iterable[str]) -> Spelling:
    """Return the spelling that most of the names have."""
    listed = tuple(names)
    return min(SPELLINGS, key=lambda spelling: len(spelling.strangers(listed)))


def unwrapped(weights: WeightFiles) -> WeightFiles:
    """Return the tensors under their names without the parts that wrappers of modules add.

    Raises:
        ValueError: Two tensors would have one name.
    """
    origins: dict[str, str] = {}
    tensors: dict[str, StoredTensor] = {}
    for name, tensor in weights.tensors.items():
        bare = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        if bare in origins:
            raise ValueError(
                f"{weights.path}: {origins[bare]} and {name} are one tensor, saved with and without its "
                "wrapper; remove the wrong one"
            )
        origins[bare], tensors[bare] = name, tensor
    return replace(weights, tensors=tensors)
