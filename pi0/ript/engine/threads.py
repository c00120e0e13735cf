"""CPU threads of torch: one while simulators need the cores, all of them while only learning runs."""

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
