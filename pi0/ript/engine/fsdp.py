"""Trained weights, gradients and optimizer sharded over ranks (FSDP2); whole outside of learning.

While learning, an expert layer is gathered just before it is used; everything else that is trained is
gathered once per micro-batch. Outside of ``learning`` every rank holds all weights, so that ranks act,
score and save independently. Frozen weights are never sharded.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from pi0.model.network import Pi0Network
from pi0.ript.engine.engine import EngineState
from pi0.ript.engine.process_group import ProcessGroup
from pi0.ript.engine.single import SingleEngine


class FsdpEngine:
    """A ``SingleEngine`` over this rank's shards; see ``DdpEngine`` for what gradients mean.

    Args:
        engine: Of the parameters that ``shard`` returned.
        network: What they belong to.
        process_group: The ranks.
    """

    needs_equal_passes = True

    def __init__(
        self, engine: SingleEngine, network: Pi0Network, process_group: ProcessGroup
    ) -> None:
        self._engine = engine
        self._modules = [module for module in network.modules() if isinstance(module, FSDPModule)]
        self._root = network
        self._process_group = process_group
        self._gather()

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Shard the weights inside the block. Its end is a collective: all ranks reach it."""
        self._shard()
        try:
            yield
        except RuntimeError as error:  # of a forward pass, which gathers layers from other ranks
            self._process_group.raise_lost(error)
            raise
        self._gather()

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of this rank's part of the loss. A collective in every layer."""
        self._process_group.collective(lambda: self._engine.backward(loss))

    def exchange(self, values: Sequence[float]) -> list[float]:
        """Add up values over ranks; backward passes have added up gradients. A collective."""
        message = torch.tensor(values, dtype=torch.float64)
        self._process_group.sum_in_place(message)
        return message.tolist()

    def step(self, lr_share: float = 1.0) -> float:
        """Clip by the norm of the whole gradient and take one AdamW step. A collective."""
        return self._process_group.collective(partial(self._engine.step, lr_share))

    def discard(self) -> None:
        """Forget the accumulated gradient."""
        self._engine.discard()

    def state(self) -> EngineState:
        """Return this rank's part of the state."""
        return self._engine.state()

    def load_state(self, state: EngineState) -> None:
        """Continue from a stored state, of any number of ranks."""
        self._shard()
        self._engine.load_state(state)
        self._gather()

    def _shard(self) -> None:
        for module in self._modules:
            module.reshard()
            # the outermost module stays gathered from a forward pass to its backward pass
            module.set_reshard_after_forward(module is not self._root, recurse=False)

    def _gather(self) -> None:
        for module in self._modules:
            module.set_reshard_after_forward(False, recurse=False)
            self._process_group.collective(module.unshard)


def shard(
    network: Pi0Network, parameters: Sequence[nn.Parameter], process_group: ProcessGroup
) -> list[nn.Parameter]:
    """Shard what is trained over ranks, in place; return the shards in the order of ``parameters``.

    Args:
        network: Its weights are the same on every rank.
        parameters: What is trained.
        process_group: The ranks.
    """
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    chosen = [names[id(parameter)] for parameter in parameters]
    frozen = {p for p in network.parameters() if not p.requires_grad}
    device = parameters[0].device
    mesh = init_device_mesh(device.type, (process_group.world_size,))
    for layer in network.core.model.dit.layers:
        if any(parameter.requires_grad for parameter in layer.parameters()):
            # the network computes layers itself; torch's hooks fire when a layer is called
            layer.forward = _call
            fully_shard(layer, mesh=mesh, ignored_params=frozen)
    fully_shard(network, mesh=mesh, ignored_params=frozen)
    for method in ("prefix", "velocity"):
        register_fsdp_forward_method(network, method)
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # the sum over ranks, not the mean
            module.set_force_sum_reduction_for_comms(True)
    shards = dict(network.named_parameters())
    return [shards[name] for name in chosen]


def _call(step: Any, hidden: Tensor) -> Any:
    return step(hidden)
