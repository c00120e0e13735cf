"""Serve a policy to openpi's clients: robots and evaluations that ask for actions over a websocket.

Examples:
    ript serve --policy DIR
    ript serve --policy outputs/RUN/checkpoints/last/pretrained_model --port 8001
    ript serve --policy DIR --host 192.168.1.5 --api_key_file key.txt
"""

import argparse
import asyncio
import ipaddress
import logging
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

import torch

from pi0.ript.build_policy import build_policy
from pi0.ript.config.schema import PolicyConfig, TrainConfig
from pi0.ript.scripts.parts.flags import Parser, require_number
from pi0.ript.scripts.parts.policy_flags import add_policy_flags, read_overrides
from pi0.ript.serve.acting import ServedPolicy
from pi0.ript.serve.requests import require_served
from pi0.ript.serve.server import PolicyServer, ServerSettings, listen_at
from pi0.ript.train.signals import STOP_SIGNALS, Interruption

logger = logging.getLogger(__name__)

DEFAULT_PORT = 8000  # openpi's
MAX_PORT = 65535
GPU_BATCH_SIZE = (
    8  # a CPU gains nothing from batches, and pays for the padding of those that are not full
)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = Parser("ript serve", __doc__)
    parser.add_argument("--policy", default="builtin", help="builtin or a checkpoint folder")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at; default %(default)s, which this machine alone can reach",
    )
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="default %(default)s; 0 takes a free one"
    )
    parser.add_argument(
        "--api_key_file", type=Path, default=None, help="file with the key that clients must send"
    )
    parser.add_argument(
        "--batch_size",
        type=int,
        default=None,
        help=f"requests of one policy call; default {GPU_BATCH_SIZE} on a GPU, 1 on a CPU",
    )
    parser.add_argument(
        "--window_ms",
        type=int,
        default=5,
        help="how long a call waits for other clients; one client never waits; default %(default)s",
    )
    parser.add_argument(
        "--max_clients", type=int, default=64, help="connections at once; default %(default)s"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="of torch on a CPU; with more than one an answer depends on its batch in the last bits; default %(default)s",
    )
    parser.add_argument(
        "--denoise_steps", type=int, default=None, help="default: what the policy is meant for"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of noise that clients name no seed for; default %(default)s",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto takes the GPU if there is one",
    )
    add_policy_flags(parser)
    arguments = parser.parse_args(argv)
    for name in ("batch_size", "max_clients", "threads", "denoise_steps"):
        require_number(arguments, name, least=1)
    require_number(arguments, "window_ms", least=0, most=1000)
    require_number(arguments, "port", least=0, most=MAX_PORT)
    return arguments


def to_config(arguments: argparse.Namespace) -> TrainConfig:
    """Return the settings of the policy."""
    return TrainConfig(
        policy_path=arguments.policy,
        norm_stats_path=arguments.norm_stats_path,
        policy=PolicyConfig(
            device=arguments.device,
            protocol=arguments.protocol,
            tokenizer_path=arguments.tokenizer_path,
            overrides=read_overrides(arguments.override),
        ),
    )


def read_key(path: Path | None) -> str | None:
    """Return the API key that a file holds, None without one.

    Raises:
        ValueError: It holds no key.
    """
    if path is None:
        return None
    key = path.read_bytes().strip()
    if not key or not key.isascii() or len(key.split()) != 1:
        raise ValueError(f"--api_key_file {path} must hold one word of ASCII letters")
    return key.decode("ascii")


def build_server(arguments: argparse.Namespace, api_key: str | None) -> PolicyServer:
    """Load the policy and return its server."""
    policy = build_policy(to_config(arguments))
    require_served(policy.card.cameras)
    torch.set_num_threads(arguments.threads)
    policy.batch_size = arguments.batch_size or (
        GPU_BATCH_SIZE if policy.device.type == "cuda" else 1
    )
    served = ServedPolicy(policy, arguments.denoise_steps or policy.card.denoise_steps)
    settings = ServerSettings(
        batch_size=policy.batch_size,
        window_s=arguments.window_ms / 1000,
        max_clients=arguments.max_clients,
        seed=arguments.seed,
        api_key=api_key,
    )
    return PolicyServer(
        served, cameras=policy.card.cameras, metadata=served.metadata(), settings=settings
    )


def warn_if_open(listener: socket.socket, api_key: str | None) -> None:
    """Say so where everyone who reaches the machine may use the policy."""
    host = listener.getsockname()[0]
    if api_key is None and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        logger.warning(
            "everyone who can reach %s may use the policy; --api_key_file lets in who has the key",
            host,
        )


async def serve_until_stopped(server: PolicyServer, listener: socket.socket) -> int:
    """Serve until SIGINT or SIGTERM and return which; a second one ends the program at once."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    received: list[int] = []

    def on_signal(number: int) -> None:
        received.append(number)
        stop.set()
        for each in STOP_SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    await server.run(listener, stop, lambda: say_where(listener))
    return received[0]


def say_where(listener: socket.socket) -> None:
    """Print the address that clients connect to."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"ws://{shown}:{port}  (Ctrl-C ends it)", flush=True)


def main(argv: Sequence[str]) -> None:
    """Serve until a signal.

    Raises:
        Interruption: Always in the end: a signal stopped it.
    """
    arguments = parse(argv)
    api_key = read_key(arguments.api_key_file)
    with listen_at(arguments.host, arguments.port) as listener:
        server = build_server(arguments, api_key)
        warn_if_open(listener, api_key)
        number = asyncio.run(serve_until_stopped(server, listener))
    raise Interruption(number, "every request that had arrived was answered")
