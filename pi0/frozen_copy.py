"""A frozen copy of a policy, which acts while the policy is trained; what is not trained is shared."""

from collections.abc import Sequence
from copy import deepcopy
from itertools import chain

import torch
from torch import Tensor

from pi0.model.network import Pi0Network
from pi0.policy import Pi0Policy


def make_frozen_copy(policy: Pi0Policy) -> Pi0Policy:
    """Return a policy that acts as ``policy`` does now, whatever is trained afterwards.

    Only trained parameters are copied; frozen ones and buffers are the same tensors in both. Call it
    once it is settled what is trained (``requires_grad``).
    """
    return Pi0Policy(
        network=_copy_trained(policy.network),
        card=policy.card,
        stats=policy.codec.stats,
        tokenizer=policy.tokenizer,
        device=policy.device,
        batch_size=policy.batch_size,
        not_followed=policy.not_followed,
        assumed=policy.assumed,
    )


def trained_weights(policy: Pi0Policy) -> list[Tensor]:
    """Return what is trained, without gradients; the order is the same in a policy and its frozen copy."""
    return [p.detach() for p in policy.network.parameters() if p.requires_grad]


@torch.no_grad()
def copy_weights(into: Sequence[Tensor], source: Sequence[Tensor]) -> None:
    """Overwrite weights in place, across devices where need be."""
    for mine, theirs in zip(into, source, strict=True):
        mine.copy_(theirs)


def _copy_trained(network: Pi0Network) -> Pi0Network:
    tensors = chain(network.parameters(), network.buffers())
    shared = {id(tensor): tensor for tensor in tensors if not tensor.requires_grad}
    copied = deepcopy(network, shared)
    copied.set_denoising(network.denoising)  # with programs of its own weights
    return copied
