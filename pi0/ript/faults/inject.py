"""Faults injected into real processes from outside, planned from a seed; the programs have no code for them."""

import ctypes
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import msgpack
import numpy as np

from pi0.ript.env.pool.messages import HEADER, frame
from pi0.ript.faults.processes import WORKER_MODULE, MarkedProcess
from pi0.ript.seeding import derive_seed

FaultKind = Literal["kill", "stop", "corrupt", "trainer_kill"]
"""SIGKILL or SIGSTOP of a worker, malformed bytes in its replies, SIGKILL of the trainer."""

SYS_PIDFD_GETFD = 438  # the same on every architecture
NOISE_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFault:
    """One fault.

    Attributes:
        time_s: Seconds after the run began.
        kind: What is done.
        seed: Decides which worker it is, and which malformed bytes are sent.
    """

    time_s: float
    kind: FaultKind
    seed: int


def plan_faults(seed: int, minutes: float, counts: Mapping[FaultKind, int]) -> list[PlannedFault]:
    """Return ``counts[kind]`` faults of each kind at random times within ``minutes``, in order of time."""
    draw = np.random.default_rng(derive_seed("faults", seed))
    kinds = [kind for kind in get_args(FaultKind) for _ in range(counts.get(kind, 0))]
    times = draw.uniform(0.0, 60.0 * minutes, len(kinds))
    planned = [
        PlannedFault(time_s=float(time_s), kind=kind, seed=derive_seed("fault", seed, number))
        for number, (kind, time_s) in enumerate(zip(kinds, times, strict=True))
    ]
    return sorted(planned, key=lambda fault: fault.time_s)


def inject(fault: PlannedFault, workers: list[MarkedProcess]) -> int:
    """Inject a fault into one of the workers and return its process id.

    Raises:
        ProcessLookupError: The worker has ended in between; try again with another.
    """
    draw = np.random.default_rng(fault.seed)
    worker = workers[draw.integers(len(workers))]
    if fault.kind == "corrupt":
        send_as(worker, malformed_bytes(draw))
    else:
        os.kill(worker.pid, signal.SIGKILL if fault.kind == "kill" else signal.SIGSTOP)
    return worker.pid


def malformed_bytes(draw: np.random.Generator) -> bytes:
    """Return bytes that no worker sends: noise, noise in a frame, half a frame, a forged reply."""
    noise = draw.bytes(NOISE_BYTES)
    not_finite = np.full(9, np.nan).tobytes()
    forged = [
        ("reply", 10**6, b"", False, 0, "", "", (), (), ()),  # a slot that no worker has
        ("reply", 0, not_finite, False, 0, "", "", (), (), ()),
        ("reply", 0, b"\0" * 8, True, -1, None, "", 3, (), ()),
        ("reply",),
        ("ready", "soon"),
    ]
    packed = msgpack.packb(forged[draw.integers(len(forged))])
    assert packed is not None
    choices = [
        b"\xff" + noise,  # a length beyond that of any message
        frame(noise),
        HEADER.pack(10 * len(noise), 0) + noise,
        frame(packed),
    ]
    return choices[draw.integers(len(choices))]


def send_as(worker: MarkedProcess, data: bytes) -> None:
    """Write into a worker's socket as if it had sent the bytes itself.

    Raises:
        ProcessLookupError: The worker has ended.
        PermissionError: The system does not permit duplicating another process's descriptors.
    """
    socket_number = int(worker.command[worker.command.index(WORKER_MODULE) + 1])
    process = os.pidfd_open(worker.pid)
    try:
        copy = ctypes.CDLL(None, use_errno=True).syscall(SYS_PIDFD_GETFD, process, socket_number, 0)
        if copy < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        try:
            os.write(copy, data)
        finally:
            os.close(copy)
    finally:
        os.close(process)
