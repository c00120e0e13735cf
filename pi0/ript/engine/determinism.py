"""Runs that repeat bit for bit on a GPU."""

import os

import torch


def repeat_exactly(device: torch.device) -> None:
    """Let torch use algorithms that repeat, and nothing else, from here on; a CPU always repeats.

    Policy calls and kept prefixes follow ``torch.are_deterministic_algorithms_enabled``: their sizes no longer
    depend on what was ready and what was free.
    """
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    torch.use_deterministic_algorithms(mode=True)
    # the gradients of these add in an order of chance
    for kind in ("flash", "mem_efficient", "cudnn"):
        getattr(torch.backends.cuda, f"enable_{kind}_sdp")(False)  # noqa: FBT003 - torch's own signature
