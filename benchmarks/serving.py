"""Clients of ``ript serve`` against those of openpi's own server, for a policy that takes 50 ms a call.

    python benchmarks/serving.py [--quick] [--json FILE] [--clients 8] [--policy_ms 50]

Both servers are processes of their own, asked in turns by unmodified openpi-clients (one thread each) that send two
images of 224 pixels and a state. The stand-in policy sleeps, as a GPU computes, and takes as long for eight
observations as for one. The peer is ``openpi_server.WebsocketPolicyServer`` of the package index, whose file is
openpi's ``serving/websocket_policy_server.py``; ``tools/setup.sh`` installs it.
"""

import argparse
import asyncio
import logging
import multiprocessing
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from numpy.typing import NDArray
from openpi_client.base_policy import BasePolicy
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from openpi_server.websocket_policy_server import WebsocketPolicyServer

from benchmarks.parts.measure import add_output_arguments, median_ratio, table, write_json
from pi0.ript.serve.requests import CAMERA_KEYS, ActionRequest
from pi0.ript.serve.server import PolicyServer, ServerSettings, listen_at

ADDRESS = "127.0.0.1"
HORIZON = 10
BATCH_SIZE = 8
LEAST_RATIO = 4.0


def serve_here(port: int, policy_s: float) -> None:
    """Serve the stand-in as ``ript serve`` serves a policy."""

    def act(requests: Sequence[ActionRequest]) -> list[NDArray[np.float32]]:
        time.sleep(policy_s)
        return [np.zeros((HORIZON, 7), np.float32) for _ in requests]

    settings = ServerSettings(
        batch_size=BATCH_SIZE, window_s=0.005, max_clients=64, seed=0, api_key=None
    )
    server = PolicyServer(act, cameras=tuple(CAMERA_KEYS), metadata={}, settings=settings)

    async def run() -> None:
        await server.run(listen_at(ADDRESS, port), asyncio.Event(), lambda: None)

    asyncio.run(run())


def serve_as_openpi(port: int, policy_s: float) -> None:
    """Serve the stand-in by openpi's server."""

    class Policy(BasePolicy):
        def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
            del obs
            time.sleep(policy_s)
            return {"actions": np.zeros((HORIZON, 7), np.float32)}

    logging.disable(logging.INFO)
    WebsocketPolicyServer(Policy(), host=ADDRESS, port=port, metadata={}).serve_forever()


SIDES: dict[str, Callable[[int, float], None]] = {"openpi": serve_as_openpi, "ript": serve_here}


@contextmanager
def running(side: str, policy_s: float) -> Iterator[int]:
    """Run a server as a process and give its port."""
    with socket.create_server((ADDRESS, 0)) as free:
        port = free.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(
        target=SIDES[side], args=(port, policy_s)
    )
    process.start()
    try:
        while process.is_alive():
            try:
                socket.create_connection((ADDRESS, port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.join()


def observation() -> dict[str, Any]:
    """Return what openpi's LIBERO client sends, 0.3 MB."""
    rng = np.random.default_rng(0)
    image, wrist = (rng.integers(0, 256, (224, 224, 3), dtype=np.uint8) for _ in range(2))
    return {
        "observation/image": image,
        "observation/wrist_image": wrist,
        "observation/state": rng.normal(size=8),
        "prompt": "open the drawer",
    }


def ask(client: WebsocketClientPolicy, num_requests: int) -> list[float]:
    """Return the seconds of every request of one client, which asks again at once."""
    sent, taken = observation(), []
    for _ in range(num_requests):
        started = time.perf_counter()
        assert client.infer(sent)["actions"].shape == (HORIZON, 7)
        taken.append(time.perf_counter() - started)
    return taken


def sample(port: int, num_clients: int, num_requests: int) -> tuple[float, float]:
    """Return requests per second of all clients and the median milliseconds of one request."""
    clients = [WebsocketClientPolicy(ADDRESS, port) for _ in range(num_clients)]
    with ExitStack() as stack, ThreadPoolExecutor(num_clients) as threads:
        for client in clients:
            stack.callback(client._ws.close)  # noqa: SLF001 - its program ends here; the client cannot
        list(threads.map(lambda client: ask(client, 1), clients))
        started = time.perf_counter()
        taken = list(threads.map(lambda client: ask(client, num_requests), clients))
        wall_s = time.perf_counter() - started
    median = statistics.median(seconds for some in taken for seconds in some)
    return num_clients * num_requests / wall_s, 1000 * median


def measure(num_clients: int, policy_s: float, *, rounds: int, num_requests: int) -> dict[str, Any]:
    """Ask both servers in turns and return all samples."""
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    latencies: dict[str, list[float]] = {side: [] for side in SIDES}
    with running("openpi", policy_s) as theirs, running("ript", policy_s) as ours:
        for _ in range(rounds):
            for side, port in (("openpi", theirs), ("ript", ours)):
                rate, latency = sample(port, num_clients, num_requests)
                rates[side].append(rate)
                latencies[side].append(latency)
    return {
        "clients": num_clients,
        "policy_ms": 1000 * policy_s,
        "requests_per_s": rates,
        "latency_ms": latencies,
        "speedup": median_ratio(rates["ript"], rates["openpi"]),
    }


def describe(found: Sequence[dict[str, Any]]) -> str:
    """Return the medians as a table."""
    rows = [
        [
            f"{case['clients']} clients, {case['policy_ms']:.0f} ms",
            *(statistics.median(case["requests_per_s"][side]) for side in SIDES),
            *(statistics.median(case["latency_ms"][side]) for side in SIDES),
            f"{case['speedup']:.2f} x",
        ]
        for case in found
    ]
    header = ["", "openpi /s", "ript /s", "openpi ms", "ript ms", "speed-up"]
    return table(header, rows)


def main() -> int:
    """Measure a lone client, and many; 1 if many are served less than four times as fast."""
    parser = argparse.ArgumentParser(description="Requests per second of two policy servers")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--policy_ms", type=float, default=50.0)
    add_output_arguments(parser)
    arguments = parser.parse_args()
    effort = (
        {"rounds": 1, "num_requests": 10} if arguments.quick else {"rounds": 5, "num_requests": 40}
    )
    found = [
        measure(clients, arguments.policy_ms / 1000, **effort) for clients in (1, arguments.clients)
    ]
    print(describe(found))
    write_json(arguments.json, {"cases": found}, is_quick=arguments.quick)
    return int(found[-1]["speedup"] < LEAST_RATIO)


if __name__ == "__main__":
    sys.exit(main())
