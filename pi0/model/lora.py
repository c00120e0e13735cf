"""Low-rank adapters through peft (optional: ``pip install 'pi0-ript[lora]'``).

Adapters sit on the projections of attention and MLP; everything else is frozen. They start at zero
effect, and ``with_adapter`` adds them to the weights they sit on, so that what is saved loads anywhere.
"""

import importlib
import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pi0.model.network import Pi0Network

LoraTargets = Literal["vlm", "expert", "both"]

DOWN, UP = ".lora_A.weight", ".lora_B.weight"  # behind the name of the projection, on disk

_ADAPTER = "default"
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_PARTS: dict[LoraTargets, tuple[str, ...]] = {
    "vlm": ("model.vlm.language_model.layers.",),
    "expert": ("model.dit.layers.",),
    "both": ("model.vlm.language_model.layers.", "model.dit.layers."),
}


def add_adapters(
    network: Pi0Network, *, rank: int, targets: LoraTargets, seed: int
) -> list[nn.Parameter]:
    """Put adapters into the network, in place, and freeze everything else.

    Args:
        network: Its adapted weights are stored in ``compute_dtype`` from here on.
        rank: Rank of every adapter, >= 1; their output is not scaled.
        targets: Language model, action expert or both.
        seed: Of the adapters' random half.

    Returns:
        The adapters' parameters, float32.

    Raises:
        ValueError: If peft is not installed.
    """
    peft = _import_peft(rank)
    chosen = _chosen_names(network.core, targets)
    for name in chosen:
        linear = network.core.get_submodule(name)
        linear.weight.data = linear.weight.data.to(network.compute_dtype)
    settings = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=chosen)
    network.requires_grad_(requires_grad=False)
    with torch.random.fork_rng(devices=[]):
        peft.inject_adapter_in_model(settings, network.core, adapter_name=_ADAPTER)
    network.eval()
    generator = torch.Generator().manual_seed(seed)
    adapters = []
    for module in _adapted(network.core).values():
        down, up = module.lora_A[_ADAPTER], module.lora_B[_ADAPTER]
        _start_without_effect(down, up, generator)
        adapters += [down.weight, up.weight]
    return adapters


def trained_tensors(core: nn.Module) -> dict[str, Tensor]:
    """Return what training changes by name: whole weights, or ``lora_A`` and ``lora_B`` of adapted projections."""
    return {
        name.replace(f".{_ADAPTER}.", "."): tensor.detach()
        for name, tensor in core.named_parameters()
        if tensor.requires_grad
    }


def plain_tensors(core: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of a module tree under their plain names, without adapters."""
    return {
        name.replace(".base_layer.", "."): tensor.detach()
        for name, tensor in core.named_parameters(remove_duplicate=False)
        if ".lora_" not in name
    }


def with_adapter(weight: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """Return an adapted weight, float32: what peft's ``merge_and_unload`` would leave."""
    return weight.float() + up.float() @ down.float()


def adapted_weights(core: nn.Module, targets: LoraTargets) -> dict[str, Tensor]:
    """Return every weight [out, in] that adapters of these targets would sit on, by name."""
    return {
        f"{name}.weight": core.get_parameter(f"{name}.weight")
        for name in _chosen_names(core, targets)
    }


def _adapted(core: nn.Module) -> dict[str, Any]:
    return {name: module for name, module in core.named_modules() if hasattr(module, "lora_A")}


def _chosen_names(core: nn.Module, targets: LoraTargets) -> list[str]:
    return [
        name
        for name, module in core.named_modules()
        if isinstance(module, nn.Linear)
        and name.rpartition(".")[2] in _PROJECTIONS
        and name.startswith(_PARTS[targets])
    ]


@torch.no_grad()
def _start_without_effect(down: nn.Linear, up: nn.Linear, generator: torch.Generator) -> None:
    bound = 1.0 / math.sqrt(down.in_features)
    random = torch.rand(down.weight.shape, generator=generator) * 2 * bound - bound
    down.weight.data = random.to(down.weight.device)
    up.weight.data = torch.zeros_like(up.weight, dtype=torch.float32)
    for linear in (down, up):
        linear.weight.requires_grad = True


def _import_peft(rank: int) -> Any:
    try:
        return importlib.import_module("peft")
    except ImportError:
        raise ValueError(
            f"policy.lora.rank is {rank}, but peft is not installed; "
            "type: pip install 'pi0-ript[lora]', or set policy.lora.rank to 0"
        ) from None
