"""Several ranks on this machine, each a process of its own, for tests of what ranks do together."""

import multiprocessing
import os
import pickle
import queue
import socket
import time
from collections.abc import Callable
from typing import Any

import torch

from pi0.ript.engine.process_group import ProcessGroup
from pi0.ript.engine.ranks import RankInfo

Program = Callable[..., Any]

# Forked from a server that has imported everything once; the server never computes.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pi0.ript.build", "tests.ranks"])
TIMEOUT_S = 60.0


def run_ranks(world_size: int, program: Program, *arguments: Any) -> list[Any]:
    """Return what ``program(process_group, *arguments)`` returns on every rank, in rank order."""
    return [result for _, result in outcomes(world_size, program, *arguments)]


def outcomes(
    world_size: int, program: Program, *arguments: Any, may_fail: bool = False
) -> list[tuple[bool, Any]]:
    """Return (whether it returned, its result or the error's text) of every rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    results: Any = CONTEXT.Queue()
    processes = [
        CONTEXT.Process(target=_rank, args=(n, world_size, port, results, program, arguments))
        for n in range(world_size)
    ]
    for process in processes:
        process.start()
    found: dict[int, tuple[bool, Any]] = {}
    deadline = time.monotonic() + TIMEOUT_S
    try:
        while len(found) < world_size:
            try:
                rank, is_done, result = results.get(timeout=0.2)
            except queue.Empty:
                ended = [n for n, p in enumerate(processes) if p.exitcode and n not in found]
                found |= {n: (False, f"exit status {processes[n].exitcode}") for n in ended}
                assert time.monotonic() < deadline, f"ranks {sorted(found)} have returned, no other"
                continue
            assert is_done or may_fail, f"rank {rank}: {result}"
            found[rank] = is_done, pickle.loads(result) if is_done else result
    finally:
        for process in processes:
            process.join(timeout=5.0)
            process.kill()
    return [found[rank] for rank in range(world_size)]


def _rank(
    rank: int, world_size: int, port: int, results: Any, program: Program, arguments: Any
) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    try:
        with ProcessGroup(RankInfo.of(os.environ)) as process_group:
            process_group.connect(timeout_s=30.0)
            result = program(process_group, *arguments)
            # by value: a shared tensor would end with its process
        results.put((rank, True, pickle.dumps(result)))
    except BaseException as error:  # noqa: BLE001 - handed to the test, which decides
        results.put((rank, False, f"{type(error).__name__}: {error}"))
