"""A policy behind openpi's websocket protocol: one conversation per connection, one batch over all of them.

A client connects and is sent the policy card; it sends an observation and is sent an action chunk, and so on.
A request that cannot be answered is answered with one line of text, and the connection is closed with 1011.
``/healthz`` and ``/metrics`` are plain HTTP on the same port.
"""

import asyncio
import hmac
import json
import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from itertools import count
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from pi0.ript.seeding import derive_seed
from pi0.ript.serve.batcher import Act, Batcher
from pi0.ript.serve.metrics import ServerMetrics
from pi0.ript.serve.protocol import MAX_FRAME_BYTES, BadRequestError, decode, encode
from pi0.ript.serve.requests import read_request

logger = logging.getLogger(__name__)

GRACE_S = 0.1
CLOSE_TIMEOUT_S = 2.0  # that a client which is gone may keep its connection from ending
HEALTH, METRICS = "/healthz", "/metrics"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Limits and times of a server.

    Attributes:
        batch_size: Requests of one call of the policy at most.
        window_s: How long a call waits for requests of other clients; one client never waits.
        active_s: A client that has neither asked nor been answered for so long is waited for by nobody.
        max_clients: Connections at once; more are refused with 503.
        seed: Of all noise that clients name no seed for.
        api_key: What clients must send as ``Authorization: Api-Key <key>``; None lets everyone in.
        ping_interval_s: How often a connection is asked whether its client is still there.
        ping_timeout_s: A client that does not answer that for so long is taken for gone.
    """

    batch_size: int
    window_s: float
    max_clients: int
    seed: int
    api_key: str | None
    active_s: float = 10.0
    ping_interval_s: float = 20.0
    ping_timeout_s: float = 60.0


class PolicyServer:
    """Serves one policy."""

    def __init__(
        self,
        act: Act,
        *,
        cameras: Sequence[str],
        metadata: Mapping[str, Any],
        settings: ServerSettings,
    ) -> None:
        """Prepare the server.

        Args:
            act: The policy.
            cameras: Whose images it reads, in its order.
            metadata: Sent to every client that connects.
            settings: Limits and times.
        """
        self._cameras = cameras
        self._metadata = encode(metadata)
        self._settings = settings
        self._metrics = ServerMetrics()
        self._numbers = count()
        self._seen: dict[ServerConnection, float] = {}  # when it last asked or was answered
        self._busy: set[ServerConnection] = set()  # wait for a response
        self._is_stopping = False
        self._batcher = Batcher(
            act,
            batch_size=settings.batch_size,
            window_s=settings.window_s,
            num_active=self._num_active,
            metrics=self._metrics,
        )

    async def run(
        self, listener: socket.socket, stop: asyncio.Event, on_ready: Callable[[], object]
    ) -> None:
        """Serve until ``stop`` is set, then answer what has arrived and close.

        Args:
            listener: A bound socket, which the server listens at and closes.
            stop: Ends it.
            on_ready: Called once clients can connect.
        """
        batches = asyncio.create_task(self._batcher.run())
        try:
            async with serve(
                self._converse,
                sock=listener,
                process_request=self._respond_to_http,
                origins=[None],  # browsers name one: a web page must not reach a robot's policy
                compression=None,
                max_size=MAX_FRAME_BYTES,
                max_queue=2,
                ping_interval=self._settings.ping_interval_s,
                ping_timeout=self._settings.ping_timeout_s,
                close_timeout=CLOSE_TIMEOUT_S,
                logger=_quiet(),
            ) as server:
                on_ready()
                await stop.wait()
                await self._drain(server)
        finally:
            batches.cancel()
            with suppress(asyncio.CancelledError):
                await batches

    async def _drain(self, server: Server) -> None:
        """Let nobody in, close who waits for nothing; the others close after their response."""
        self._is_stopping = True
        server.close(close_connections=False)
        await asyncio.sleep(GRACE_S)  # requests that have arrived reach their conversations
        idle = server.connections - self._busy
        await asyncio.gather(*(each.close(CloseCode.GOING_AWAY) for each in idle))
        await server.wait_closed()

    def _num_active(self) -> int:
        """Return how many clients wait for a response or may soon ask for the next one."""
        since = time.monotonic() - self._settings.active_s
        recent = {websocket for websocket, at in self._seen.items() if at > since}
        return len(recent | self._busy)

    async def _converse(self, websocket: ServerConnection) -> None:
        number = next(self._numbers)
        self._metrics.num_connections += 1
        logger.info("client %d connected from %s", number, websocket.remote_address)
        try:
            await websocket.send(self._metadata)
            await self._respond_to_all(websocket, number)
        except ConnectionClosed:
            pass  # openpi's clients never close: their end is always a lost connection
        finally:
            self._seen.pop(websocket, None)
            self._metrics.num_connections -= 1
            logger.info("client %d is gone", number)

    async def _respond_to_all(self, websocket: ServerConnection, number: int) -> None:
        total_ms: float | None = None
        for position in count():
            frame = await websocket.recv()
            seed = derive_seed(self._settings.seed, "serve", number, position)
            started = time.monotonic()
            self._seen[websocket] = started
            self._busy.add(websocket)
            try:
                await websocket.send(await self._response(frame, seed, total_ms))
            except BadRequestError as error:
                self._metrics.add_refusal()
                logger.warning("client %d: %s", number, error)
                await websocket.send(str(error))
                await websocket.close(CloseCode.INTERNAL_ERROR, "see the message before")
                return
            finally:
                self._busy.discard(websocket)
            self._seen[websocket] = time.monotonic()
            seconds = self._seen[websocket] - started
            self._metrics.add_response(seconds)
            total_ms = 1000 * seconds
            if self._is_stopping:
                await websocket.close(CloseCode.GOING_AWAY)
                return

    async def _response(self, frame: bytes | str, seed: int, total_ms: float | None) -> bytes:
        """Return the frame that answers a request; actions are its only array, which openpi's clients slice."""
        started = time.monotonic()
        request = read_request(decode(frame), self._cameras, seed)
        response = await self._batcher.respond(request)
        timing = {"infer_ms": 1000 * (time.monotonic() - started)}
        if total_ms is not None:
            timing["prev_total_ms"] = total_ms
        return encode(
            {
                "actions": response.actions,
                "policy_timing": {"infer_ms": 1000 * response.seconds},
                "server_timing": timing,
            }
        )

    def _respond_to_http(self, websocket: ServerConnection, request: Request) -> Response | None:
        """Return the response to what is no request for a websocket, or to a client that is refused."""
        if request.path == HEALTH:
            return websocket.respond(HTTPStatus.OK, "OK\n")
        if not self._is_allowed(request):
            return websocket.respond(HTTPStatus.UNAUTHORIZED, "the API key is missing or wrong\n")
        if request.path == METRICS:
            response = websocket.respond(HTTPStatus.OK, json.dumps(self._metrics.to_dict()) + "\n")
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = "application/json"
            return response
        if self._metrics.num_connections >= self._settings.max_clients:
            text = f"{self._settings.max_clients} clients are connected, which is the most\n"
            return websocket.respond(HTTPStatus.SERVICE_UNAVAILABLE, text)
        return None

    def _is_allowed(self, request: Request) -> bool:
        key = self._settings.api_key
        given = request.headers.get_all("Authorization")
        return key is None or (
            len(given) == 1
            and hmac.compare_digest(given[0].encode("utf-8", "replace"), f"Api-Key {key}".encode())
        )


def listen_at(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address; clients can connect once a server takes it.

    Raises:
        OSError: The address is taken, or none of this machine.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:  # the latter of a name that no host can have
        reason = error.strerror if isinstance(error, OSError) else error
        raise OSError(
            f"--host {host}: {reason}; use 127.0.0.1 or an address of this machine"
        ) from None
    listener = socket.socket(family, kind, number)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise OSError(
            f"--host {host} --port {port}: {error.strerror}; choose another one, or port 0 for any"
        ) from None
    return listener


def _quiet() -> logging.Logger:
    """Return a logger for the library, which logs a traceback for every stranger that knocks."""
    quiet = logging.getLogger(f"{__name__}.websockets")
    quiet.setLevel(logging.CRITICAL)
    return quiet
