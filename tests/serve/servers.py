"""A server in this process, on a thread of its own, for tests that talk to it over real sockets."""

import asyncio
import json
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pi0.ript.serve.requests import ActionRequest
from pi0.ript.serve.server import PolicyServer, ServerSettings, listen_at

CAMERAS = ("agentview", "robot0_eye_in_hand")
SIZE = 32
METADATA = {"horizon": 6, "execute_steps": 4, "protocol": "openpi"}


def request_values(seed: int = 0, size: int = SIZE) -> dict[str, Any]:
    """Return what openpi's LIBERO client sends."""
    rng = np.random.default_rng(seed)
    return {
        "observation/image": rng.integers(0, 256, (size, size, 3), dtype=np.uint8),
        "observation/wrist_image": rng.integers(0, 256, (size, size, 3), dtype=np.uint8),
        "observation/state": rng.normal(size=8),
        "prompt": "open the drawer",
    }


def echo(requests: Sequence[ActionRequest]) -> list[NDArray[np.float32]]:
    """Answer with six actions that hold the first seven numbers of the state."""
    return [np.tile(each.observation.state[:7], (6, 1)).astype(np.float32) for each in requests]


@dataclass(frozen=True, kw_only=True)
class Served:
    """A running server."""

    port: int
    stop: threading.Event
    thread: threading.Thread

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
            return response.read().decode()

    def metrics(self) -> dict[str, Any]:
        return json.loads(self.get("/metrics"))


def settings(**changes: Any) -> ServerSettings:
    values = {"batch_size": 8, "window_s": 0.005, "max_clients": 16, "seed": 0, "api_key": None}
    return ServerSettings(**(values | changes))


@contextmanager
def serving(act: Any = echo, **changes: Any) -> Iterator[Served]:
    """Serve a policy until the block ends; then the server has drained."""
    listener = listen_at("127.0.0.1", 0)
    server = PolicyServer(act, cameras=CAMERAS, metadata=METADATA, settings=settings(**changes))
    is_ready, stop = threading.Event(), threading.Event()

    async def run() -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        waiter = threading.Thread(
            target=lambda: (stop.wait(), loop.call_soon_threadsafe(ended.set))
        )
        waiter.start()
        await server.run(listener, ended, is_ready.set)
        waiter.join()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert is_ready.wait(60)
    served = Served(port=listener.getsockname()[1], stop=stop, thread=thread)
    try:
        yield served
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()
