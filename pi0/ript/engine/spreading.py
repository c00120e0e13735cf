"""Tensors spread over ranks and whole ones."""

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def spread_like(like: Tensor, tensor: Tensor) -> Tensor:
    """Return a copy on the device of ``like``; a whole tensor is spread over ranks if that one is."""
    copy = tensor.detach().to(like.device, copy=True)
    if not isinstance(like, DTensor) or isinstance(copy, DTensor):
        return copy
    # every rank holds the whole tensor, so that nothing has to be sent
    return distribute_tensor(copy, like.device_mesh, like.placements, src_data_rank=None)


def is_finite(tensor: Tensor) -> bool:
    """Return whether all numbers that this rank holds are finite."""
    held = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return bool(held.isfinite().all())
