"""Every tensor of a checkpoint is accounted for: used once, known to be unused, or refused."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from pi0.formats.spellings import DEAD_EMBEDDING, EMBEDDING, SPELLINGS, Spelling
from pi0.formats.weight_files import StoredTensor, WeightFiles

# LeRobot before 0.4 kept its statistics beside the weights.
STATISTICS = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")
# What RLinf's reinforcement learning keeps beside the policy, and no action depends on.
BESIDE_POLICY: Mapping[str, str] = {
    "value_head.": "RLinf's critic",
    "q_head.": "RLinf's critic",
    "critic_image_encoder.": "RLinf's critic",
    "critic_state_encoder.": "RLinf's critic",
    "noise_head.": "RLinf's exploration noise",
}
# What decides on actions from outside pi0: without it the policy is the one before training.
_STEERING: Mapping[str, str] = {
    "dsrl_": "noise that RLinf's DSRL learned",
    "actor_image_encoder.": "noise that RLinf's DSRL learned",
    "actor_state_encoder.": "noise that RLinf's DSRL learned",
    "rlt_module.": "RLinf's RL tokens",
}
_TIME_MLP, _ADAPTIVE = ".time_mlp_in.", "norm.dense."
_ONLY_PI0 = (".action_time_mlp_in.", ".state_proj.")
_LORA = (".lora_A.", ".lora_B.", ".base_layer.")


def match_tensors(
    weights: WeightFiles,
    spelling: Spelling,
    shapes: Mapping[str, tuple[int, ...]],
    wanted: frozenset[str],
) -> dict[str, StoredTensor]:
    """Account for every tensor: used once, or known to be unused, or the second name of a tied one.

    Args:
        weights: What the files hold.
        spelling: How they name it.
        shapes: Shapes of all tensors, unused ones of transformers' pi0 included.
        wanted: The names among ``shapes`` that must be there.

    Returns:
        The tensors of the network by transformers' names, unused ones of the file included.
    """
    found: dict[str, list[str]] = {}
    for name in weights.tensors:
        known = spelling.translate(name)
        if known is not None and known in shapes:
            found.setdefault(known, []).append(name)
    _refuse_unknown(weights, spelling, shapes)
    missing = sorted(spelling.name_of(name) for name in wanted - found.keys())
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


def tensors_beside(weights: WeightFiles) -> list[str]:
    """Return what lies beside the policy and is left out, one line each."""
    what = Counter(
        f"{head.removesuffix('.')}: {text}"
        for name in weights.tensors
        for head, text in BESIDE_POLICY.items()
        if name.startswith(head)
    )
    return [f"{text} ({count} tensors)" for text, count in sorted(what.items())]


def refuse_relatives(path: Path, names: list[str]) -> None:
    """Raise ValueError, with what to do, for the tensors of a model that is nearly pi0."""
    bare = [name.removeprefix("model.") for name in names]
    for name in names:
        if any(part in f".{name}." for part in _LORA):
            raise ValueError(
                f"{path} holds LoRA adapters that are not merged (tensor {name}); merge them in the "
                "project that trained them (PEFT: merge_and_unload) and give the result"
            )
        for head, text in _STEERING.items():
            if name.startswith(head):
                raise ValueError(
                    f"{path} holds {text} (tensor {name}), which chooses the actions of a pi0 that was "
                    "not trained; it cannot be run here, use a run that trains pi0 itself"
                )
    is_pi0_like = any(name.startswith("paligemma_with_expert.") for name in bare)
    if is_pi0_like and not any(name.startswith("action_in_proj.") for name in bare):
        raise ValueError(
            f"{path} has no action_in_proj: a pi0-FAST or a bare PaliGemma; only pi0 and pi0.5 can be loaded"
        )


def is_pi05(path: Path, names: list[str]) -> bool:
    """Return whether the tensors are those of a pi0.5, whatever their folder is called.

    Raises:
        ValueError: They are of both.
    """
    of_pi05 = [name for name in names if _TIME_MLP in f".{name}" or _ADAPTIVE in name]
    of_pi0 = [name for name in names if any(part in f".{name}" for part in _ONLY_PI0)]
    if of_pi05 and of_pi0:
        raise ValueError(
            f"{path} holds parts of pi0.5 ({of_pi05[0]}) and of pi0 ({of_pi0[0]}); two checkpoints are "
            "mixed, save one again"
        )
    return bool(of_pi05)


def refuse_strangers(path: Path, spelling: Spelling, names: list[str]) -> None:
    """Raise ValueError for weights of which not one tensor is pi0's, or under an unknown prefix."""
    if len(spelling.strangers(names)) < len(names):
        return
    first = names[0] if names else "none"
    for name in names:
        prefix = name.partition("action_in_proj.")[0]
        if prefix not in ("", name):
            raise ValueError(
                f"{path} holds a pi0 whose tensors have the prefix {prefix!r} (first {first}); "
                "take the prefix away from the names and save them again"
            )
    raise ValueError(
        f"{path} holds no pi0: {len(names)} tensors, first {first}; "
        "give a pi0 folder of openpi, LeRobot, RLinf or transformers"
    )


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


def _refuse_unknown(
    weights: WeightFiles, spelling: Spelling, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    unknown = sorted(
        name
        for name in weights.tensors
        if spelling.translate(name) not in shapes and not name.startswith(_ALLOWED)
    )
    if not unknown:
        return
    for other in SPELLINGS:
        if other is not spelling and other.translate(unknown[0]) in shapes:
            raise ValueError(
                f"{weights.path}: {len(unknown)} tensors have other names than the rest: {unknown[0]} "
                f"({other.text}) beside {spelling.text}; two checkpoints are mixed, save one again"
            )
    raise ValueError(
        f"{weights.path}: {len(unknown)} tensors are unknown, first {unknown[0]}; "
        "does config.json belong to these weights?"
    )


_ALLOWED = (*STATISTICS, *BESIDE_POLICY)
