"""openpi's JAX parameter tree as the tensors of openpi's PyTorch model (models/{pi0,gemma,siglip,lora}.py).

Layers are stacked along the first axis of an array; einsum weights keep heads apart. Every array of the
tree is used exactly once; one too many or too few is an error.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from pi0.formats.jax.orbax import StoredArray
from pi0.formats.weight_files import StoredTensor

Operation = Callable[[Tensor], Tensor]

_IMAGE, _LANGUAGE = "PaliGemma/img/", "PaliGemma/llm/"
_PALIGEMMA = "paligemma_with_expert.paligemma.model."
_VISION = f"{_PALIGEMMA}vision_tower.vision_model."
_EXPERT = "paligemma_with_expert.gemma_expert.model."
_GEMMA = f"{_PALIGEMMA}language_model."

_PI0_PROJECTIONS = ("state_proj", "action_time_mlp_in", "action_time_mlp_out")
_PI05_PROJECTIONS = ("time_mlp_in", "time_mlp_out")
# Rank of openpi's two LoRA variants, whose alpha is the rank: nothing is scaled.
_LORA_RANKS = {"": 16, "_1": 32}


def _same(x: Tensor) -> Tensor:
    return x


def _transposed(x: Tensor) -> Tensor:
    return x.T


def _heads_last(x: Tensor) -> Tensor:
    """[heads, in, D] -> [heads * D, in]."""
    return x.permute(0, 2, 1).flatten(0, 1)


def _heads_first(x: Tensor) -> Tensor:
    """[heads, D, out] -> [out, heads * D]."""
    return x.flatten(0, 1).T


def _part(index: tuple[int, ...], then: Operation, x: Tensor) -> Tensor:
    return then(x[index])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """Where one array goes.

    Attributes:
        path: In the tree.
        targets: openpi's PyTorch names and what makes them of the array; ``{}`` is the layer.
        is_stacked: Whether the first axis counts layers.
    """

    path: str
    targets: tuple[tuple[str, Operation], ...]
    is_stacked: bool = False


class _LastRead:
    """Keeps the array that was read last: tensors are wanted array by array, and arrays are large."""

    def __init__(self) -> None:
        self._array: StoredArray | None = None
        self._values = torch.empty(0)

    def take(self, array: StoredArray, operation: Operation) -> Tensor:
        """Return what an operation makes of an array, as a tensor of its own."""
        if self._array is not array:
            self._array, self._values = None, torch.empty(0)  # never two at once
            self._values = array.read()
            self._array = array
        return operation(self._values).clone(memory_format=torch.contiguous_format)


def to_openpi(path: Path, arrays: Mapping[str, StoredArray]) -> dict[str, StoredTensor]:
    """Return the tensors that a tree holds, in an order in which every array is read once.

    Args:
        path: The folder, for messages.
        arrays: By their path in the tree.

    Raises:
        ValueError: It is no tree of pi0 or pi0.5; the line names what does not fit.
    """
    if "action_in_proj/kernel" not in arrays:
        raise ValueError(
            f"{path}: the tree has no action_in_proj, so this is no flow policy (pi0-FAST?); "
            "give a checkpoint of pi0 or pi0.5"
        )
    rules = _rules(is_pi05="time_mlp_in/kernel" in arrays)
    arrays = _merge_adapters(path, arrays)
    _check_tree(path, arrays, rules)
    tensors: dict[str, StoredTensor] = {}
    held = _LastRead()
    for rule in rules:
        tensors.update(_split(path, rule, arrays[rule.path], held))
    return tensors


def _split(
    path: Path, rule: _Rule, array: StoredArray, held: _LastRead
) -> Iterator[tuple[str, StoredTensor]]:
    header = torch.empty(array.shape, dtype=array.dtype, device="meta")
    for layer in range(array.shape[0]) if rule.is_stacked else (None,):
        for name, operation in rule.targets:
            take = operation if layer is None else partial(_part, (layer,), operation)
            try:
                shape = tuple(take(header).shape)
            except (RuntimeError, IndexError, ValueError):
                raise ValueError(
                    f"{path}: array {rule.path} has shape {array.shape}, which no pi0 has"
                ) from None
            yield (
                name.format(layer),
                StoredTensor(
                    path=path, shape=shape, dtype=array.dtype, read=partial(held.take, array, take)
                ),
            )


def _rules(*, is_pi05: bool) -> tuple[_Rule, ...]:
    names = ("action_in_proj", "action_out_proj")
    names += _PI05_PROJECTIONS if is_pi05 else _PI0_PROJECTIONS
    projections = [rule for name in names for rule in _linear(name, name)]
    return (
        *_vision_rules(),
        _Rule(
            path=f"{_LANGUAGE}embedder/input_embedding",
            targets=((f"{_GEMMA}embed_tokens.weight", _same),),
        ),
        *_gemma_rules("", _GEMMA),
        *_norm_rules("", _GEMMA, is_adaptive=False),
        *_gemma_rules("_1", _EXPERT),
        *_norm_rules("_1", _EXPERT, is_adaptive=is_pi05),
        *projections,
    )


def _vision_rules() -> Iterator[_Rule]:
    there = f"{_IMAGE}Transformer/encoderblock/"
    here = f"{_VISION}encoder.layers.{{}}."
    attention = f"{there}MultiHeadDotProductAttention_0/"
    yield _Rule(
        path=f"{_IMAGE}embedding/kernel",
        targets=((f"{_VISION}embeddings.patch_embedding.weight", _as_convolution),),
    )
    yield _Rule(
        path=f"{_IMAGE}embedding/bias",
        targets=((f"{_VISION}embeddings.patch_embedding.bias", _same),),
    )
    yield _Rule(
        path=f"{_IMAGE}pos_embedding",
        targets=((f"{_VISION}embeddings.position_embedding.weight", partial(_part, (0,), _same)),),
    )
    for number in (0, 1):
        yield from _scale_and_bias(
            f"{there}LayerNorm_{number}", f"{here}layer_norm{number + 1}", is_stacked=True
        )
        yield from _linear(
            f"{there}MlpBlock_0/Dense_{number}", f"{here}mlp.fc{number + 1}", is_stacked=True
        )
    for jax, torch_name in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
        name = f"{here}self_attn.{torch_name}"
        yield _Rule(
            path=f"{attention}{jax}/kernel",
            targets=((f"{name}.weight", _joined_heads),),
            is_stacked=True,
        )
        yield _Rule(
            path=f"{attention}{jax}/bias",
            targets=((f"{name}.bias", torch.flatten),),
            is_stacked=True,
        )
    name = f"{here}self_attn.out_proj"
    yield _Rule(
        path=f"{attention}out/kernel", targets=((f"{name}.weight", _heads_first),), is_stacked=True
    )
    yield _Rule(path=f"{attention}out/bias", targets=((f"{name}.bias", _same),), is_stacked=True)
    yield from _scale_and_bias(f"{_IMAGE}Transformer/encoder_norm", f"{_VISION}post_layernorm")
    yield from _linear(f"{_IMAGE}head", f"{_PALIGEMMA}multi_modal_projector.linear")


def _as_convolution(x: Tensor) -> Tensor:
    """[height, width, in, out] -> [out, in, height, width]."""
    return x.permute(3, 2, 0, 1)


def _joined_heads(x: Tensor) -> Tensor:
    """[in, heads, D] -> [heads * D, in]."""
    return x.flatten(1).T


def _gemma_rules(suffix: str, here: str) -> Iterator[_Rule]:
    attention, mlp = f"{_LANGUAGE}layers/attn/", f"{_LANGUAGE}layers/mlp{suffix}/"
    layer = f"{here}layers.{{}}."
    targets: dict[str, tuple[tuple[str, Operation], ...]] = {
        f"{attention}q_einsum{suffix}/w": (("self_attn.q_proj", _heads_last),),
        f"{attention}kv_einsum{suffix}/w": (
            ("self_attn.k_proj", partial(_part, (0,), _heads_last)),
            ("self_attn.v_proj", partial(_part, (1,), _heads_last)),
        ),
        f"{attention}attn_vec_einsum{suffix}/w": (("self_attn.o_proj", _heads_first),),
        f"{mlp}gating_einsum": (
            ("mlp.gate_proj", partial(_part, (0,), _transposed)),
            ("mlp.up_proj", partial(_part, (1,), _transposed)),
        ),
        f"{mlp}linear": (("mlp.down_proj", _transposed),),
    }
    for path, parts in targets.items():
        named = tuple((f"{layer}{name}.weight", operation) for name, operation in parts)
        yield _Rule(path=path, targets=named, is_stacked=True)


def _norm_rules(suffix: str, here: str, *, is_adaptive: bool) -> Iterator[_Rule]:
    layers, layer = f"{_LANGUAGE}layers/", f"{here}layers.{{}}."
    for there, name, is_stacked in (
        (f"{layers}pre_attention_norm{suffix}", f"{layer}input_layernorm", True),
        (f"{layers}pre_ffw_norm{suffix}", f"{layer}post_attention_layernorm", True),
        (f"{_LANGUAGE}final_norm{suffix}", f"{here}norm", False),
    ):
        if is_adaptive:
            yield from _linear(f"{there}/Dense_0", f"{name}.dense", is_stacked=is_stacked)
        else:  # an offset from 1 in both
            yield _Rule(
                path=f"{there}/scale", targets=((f"{name}.weight", _same),), is_stacked=is_stacked
            )


def _linear(there: str, here: str, *, is_stacked: bool = False) -> Iterator[_Rule]:
    weight, bias = (f"{here}.weight", _transposed), (f"{here}.bias", _same)
    yield _Rule(path=f"{there}/kernel", targets=(weight,), is_stacked=is_stacked)
    yield _Rule(path=f"{there}/bias", targets=(bias,), is_stacked=is_stacked)


def _scale_and_bias(there: str, here: str, *, is_stacked: bool = False) -> Iterator[_Rule]:
    for leaf, name in (("scale", "weight"), ("bias", "bias")):
        target = (f"{here}.{name}", _same)
        yield _Rule(path=f"{there}/{leaf}", targets=(target,), is_stacked=is_stacked)


def _merge_adapters(path: Path, arrays: Mapping[str, StoredArray]) -> dict[str, StoredArray]:
    """Return the arrays with LoRA's pairs added to the weights beside them, in float32."""
    merged = dict(arrays)
    for name in sorted(arrays):
        if not name.endswith("lora_a"):
            continue
        head = name.removesuffix("lora_a")
        base = f"{head}w" if head.endswith("/") else head.removesuffix("_")
        if base not in arrays or f"{head}lora_b" not in arrays:
            raise ValueError(f"{path}: array {name} belongs to no weight; copy the folder again")
        down, up = merged.pop(name), merged.pop(f"{head}lora_b")
        rank = _LORA_RANKS["_1" if "_1/" in name else ""]
        if down.shape[-1] != rank:
            raise ValueError(
                f"{path}: {name} has rank {down.shape[-1]}; openpi's variants have {rank}, and only for "
                "them it is known that adapters are not scaled; merge them with openpi"
            )
        merged[base] = StoredArray(
            shape=arrays[base].shape,
            dtype=torch.float32,
            read=partial(_merged, arrays[base], down, up),
        )
    return merged


def _merged(base: StoredArray, down: StoredArray, up: StoredArray) -> Tensor:
    return base.read().float() + down.read().float() @ up.read().float()


def _check_tree(path: Path, arrays: Mapping[str, StoredArray], rules: tuple[_Rule, ...]) -> None:
    wanted = {rule.path for rule in rules}
    for kind, names in (("lacks", wanted - arrays.keys()), ("also holds", arrays.keys() - wanted)):
        if names:
            raise ValueError(
                f"{path}: the tree {kind} {len(names)} arrays, first {min(names)}; "
                f"a checkpoint of openpi has {len(wanted)}"
            )
