"""What torch does in this process: its CPU threads, and algorithms that repeat bit for bit.

One thread while simulators need the cores, all of them while only learning runs.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Beyond this, synchronizing threads costs more than dividing the work saves.
MAX_THREADS = 8


def leave_cores_to_simulators() -> None:
    """Let torch use one thread: threads that spin for each other starve the simulators 20-fold."""
    torch.set_num_threads(1)


@contextmanager
def all_cores() -> Iterator[None]:
    """Let torch use every core of this process, up to ``MAX_THREADS``, inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(MAX_THREADS, len(os.sched_getaffinity(0))))
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
