"""Tensors spread over ranks and whole ones."""

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensor: Tensor) -> Tensor:
    """Return the whole tensor; ranks meet here if it is spread over them."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def spread_like(like: Tensor, tensor: Tensor) -> Tensor:
    """Return a copy of a whole tensor on the device of ``like``, spread over ranks if that is."""
    copy = tensor.detach().to(like.device, copy=True)
    if not isinstance(like, DTensor):
        return copy
    # every rank holds the whole tensor, so that nothing has to be sent
    return distribute_tensor(copy, like.device_mesh, like.placements, src_data_rank=None)
