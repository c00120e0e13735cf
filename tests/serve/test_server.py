"""The server over real sockets, asked by openpi's own client as the package index has it."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from pi0.ript.seeding import derive_seed
from pi0.ript.serve.protocol import MAX_FRAME_BYTES, decode, encode
from tests.serve.servers import METADATA, Served, echo, request_values, serving

openpi = pytest.importorskip(
    "openpi_client.websocket_client_policy",
    reason="openpi-client is installed by tools/setup.sh",
)
broker = pytest.importorskip("openpi_client.action_chunk_broker", reason="needs dm-tree")

# openpi's client connects in a way that websockets has announced the end of, and never closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore:connect.. must be used:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]
NUM_CLIENTS = 8


def client_of(served: Served, **options):
    return openpi.WebsocketClientPolicy("127.0.0.1", served.port, **options)


@contextmanager
def raw(served: Served, **options):
    """A connection that can send what openpi's client cannot; the policy card is taken."""
    with connect(f"ws://127.0.0.1:{served.port}", compression=None, **options) as connection:
        assert decode(connection.recv()) == METADATA
        yield connection


class Recorded:
    """Answers like ``echo`` and keeps what it was asked."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.calls: list = []
        self._seconds = seconds

    def __call__(self, requests):
        self.calls.append(list(requests))
        time.sleep(self._seconds)
        return echo(requests)


def until(condition, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def test_openpis_client_is_told_the_card_and_answered():
    with serving() as served:
        client = client_of(served)
        assert client.get_server_metadata() == METADATA
        for seed in range(3):
            values = request_values(seed)
            answer = client.infer(values)
            assert answer["actions"].shape == (6, 7)
            assert np.allclose(answer["actions"][0], values["observation/state"][:7])
            assert answer["policy_timing"]["infer_ms"] >= 0
            # like openpi's server: how long the answer before took, once there is one
            assert ("prev_total_ms" in answer["server_timing"]) == (seed > 0)


def test_openpis_broker_slices_the_answer_step_by_step():
    act = Recorded()
    with serving(act) as served:
        policy = broker.ActionChunkBroker(client_of(served), action_horizon=6)
        for step in range(12):
            assert policy.infer(request_values(step))["actions"].shape == (7,)
        assert len(act.calls) == 2


def test_wrong_request_is_one_line_and_takes_nobody_with_it():
    with serving() as served:
        good, bad = client_of(served), client_of(served)
        values = request_values()
        del values["prompt"]
        with pytest.raises(RuntimeError, match="'prompt' is missing; this policy reads"):
            bad.infer(values)
        with pytest.raises(ConnectionClosed) as closed:
            bad.infer(request_values())
        assert closed.value.rcvd.code == 1011
        assert good.infer(request_values())["actions"].shape == (6, 7)
        assert served.metrics()["errors"] == 1


def test_clients_that_ask_together_are_one_call():
    act = Recorded()
    with serving(act, window_s=1.0) as served, ThreadPoolExecutor(NUM_CLIENTS) as threads:
        clients = [client_of(served) for _ in range(NUM_CLIENTS)]
        # the first requests come one by one and may wait for those that asked before
        first = [threads.submit(client.infer, request_values()) for client in clients]
        assert all(answer.result() for answer in first)
        act.calls.clear()
        answers = list(threads.map(lambda c: c[1].infer(request_values(c[0])), enumerate(clients)))
    assert [len(call) for call in act.calls] == [NUM_CLIENTS]
    for seed, answer in enumerate(answers):
        assert np.allclose(answer["actions"][0], request_values(seed)["observation/state"][:7])


def test_lone_client_never_waits_for_others():
    with serving(window_s=1000.0) as served:
        client_of(served)  # has not asked yet, so nobody waits for it
        assert client_of(served).infer(request_values())["actions"].shape == (6, 7)


def test_client_that_has_not_asked_for_a_while_is_not_waited_for():
    with serving(window_s=1000.0, active_s=0.2) as served:
        client_of(served).infer(request_values())
        time.sleep(0.3)
        assert client_of(served).infer(request_values())["actions"].shape == (6, 7)


def test_request_that_the_policy_cannot_act_on_takes_no_other_with_it(caplog):
    def act(requests):
        if any(each.prompt == "fail" for each in requests):
            raise RuntimeError("secret detail\nof two lines")
        if any(each.prompt == "long" for each in requests):
            raise ValueError("the instruction\nis too long")
        return echo(requests)

    prompts = ["open", "fail", "long", "close"]

    def answer(client, prompt):
        try:
            return client.infer(request_values() | {"prompt": prompt})["actions"].shape
        except RuntimeError as error:
            return str(error).splitlines()[1:]

    with serving(act, window_s=0.5) as served, ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(answer, [client_of(served) for _ in prompts], prompts))
        assert answers == [
            (6, 7),
            ["the policy failed (RuntimeError); see the server's log"],
            ["the instruction is too long"],
            (6, 7),
        ]
    assert "secret detail" in caplog.text


def test_actions_that_are_not_finite_never_reach_a_robot():
    def act(requests):
        return [np.full((6, 7), np.nan, np.float32)]

    with serving(act) as served, pytest.raises(RuntimeError, match="not finite"):
        client_of(served).infer(request_values())


def test_noise_is_seeded_by_connection_and_request_unless_the_client_names_a_seed():
    act = Recorded()
    with serving(act, seed=3) as served:
        first, second = client_of(served), client_of(served)
        for client in (first, second, first):
            client.infer(request_values())
        second.infer(request_values() | {"seed": 77})
    seeds = [request.seed for (request,) in act.calls]
    assert seeds == [derive_seed(3, "serve", *at) for at in ((0, 0), (1, 0), (0, 1))] + [77]


def test_health_and_metrics_are_answered_while_the_policy_computes():
    with serving(Recorded(seconds=1.0)) as served, ThreadPoolExecutor(1) as threads:
        answer = threads.submit(client_of(served).infer, request_values())
        until(lambda: served.metrics()["connections"] == 1)
        assert served.get("/healthz") == "OK\n"
        assert not answer.done()
        answer.result()
        metrics = served.metrics()
    assert (metrics["responses"], metrics["policy_calls"], metrics["errors"]) == (1, 1, 0)
    assert metrics["requests_per_call"] == 1.0
    assert metrics["policy_ms"]["p50"] >= 1000.0
    assert metrics["latency_ms"]["p50"] >= metrics["policy_ms"]["p50"]


def test_key_opens_the_door():
    with serving(api_key="sesame") as served:
        assert client_of(served, api_key="sesame").infer(request_values())
        for options in ({}, {"api_key": "Sesame"}):
            with pytest.raises(InvalidStatus, match="401"):
                client_of(served, **options)
        assert served.get("/healthz") == "OK\n"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            served.metrics()


def test_web_page_is_not_let_in():
    with serving() as served, ExitStack() as stack, pytest.raises(InvalidStatus, match="403"):
        stack.enter_context(raw(served, origin="http://evil.example"))


def test_more_clients_than_allowed_are_refused_and_may_come_later():
    with serving(max_clients=1) as served:
        with raw(served), pytest.raises(InvalidStatus, match="503"):
            client_of(served)
        until(lambda: served.metrics()["connections"] == 0)
        assert client_of(served).infer(request_values())


def test_message_that_is_too_big_ends_its_own_connection():
    with serving() as served, raw(served) as connection:
        connection.send(bytes(MAX_FRAME_BYTES + 1))
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv()
        assert closed.value.rcvd.code == 1009
        assert client_of(served).infer(request_values())


KILLED = """
import os, sys
sys.path.insert(0, os.getcwd())
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from tests.serve.servers import request_values
client = WebsocketClientPolicy("127.0.0.1", int(sys.argv[1]))
print("asking", flush=True)
client.infer(request_values())
"""


def test_client_killed_in_mid_request_is_forgotten():
    act = Recorded(seconds=1.0)
    with serving(act) as served:
        command = [sys.executable, "-c", KILLED, str(served.port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            until(lambda: len(act.calls) == 1)
            os.kill(process.pid, signal.SIGKILL)
        assert client_of(served).infer(request_values())["actions"].shape == (6, 7)
        until(lambda: served.metrics()["connections"] == 1)


def test_client_that_no_longer_answers_is_dropped():
    with serving(ping_interval_s=0.1, ping_timeout_s=0.3) as served:
        half_open = socket.create_connection(("127.0.0.1", served.port))
        half_open.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        until(lambda: served.metrics()["connections"] == 1)
        until(lambda: served.metrics()["connections"] == 0)
        half_open.close()


def test_long_call_keeps_its_client():
    # the client gives up after 1 s without a sign of life; the call takes three times as long
    patience = {"ping_interval": 0.2, "ping_timeout": 1.0}
    with serving(Recorded(seconds=3.0)) as served, raw(served, **patience) as connection:
        connection.send(encode(request_values()))
        assert decode(connection.recv(timeout=60))["actions"].shape == (6, 7)


def test_stopped_server_answers_what_has_arrived():
    act = Recorded(seconds=0.5)
    with ThreadPoolExecutor(4) as threads:
        with serving(act, batch_size=1) as served, raw(served) as idle:
            answers = [threads.submit(client_of(served).infer, request_values()) for _ in range(4)]
            until(lambda: len(act.calls) == 1)
            served.stop.set()
            with pytest.raises(ConnectionClosed) as closed:
                idle.recv()
            assert closed.value.rcvd.code == 1001
            with pytest.raises(ConnectionRefusedError):
                client_of(served)
        assert [answer.result()["actions"].shape for answer in answers] == [(6, 7)] * 4


def test_strangers_disturb_nobody():
    """Damaged requests, half handshakes and noise on the port, while an honest client goes on."""
    rng = random.Random(0)
    whole = encode(request_values(size=16))
    asked = threading.Event()

    def honest(served):
        client, count = client_of(served), 0
        while not asked.is_set():
            assert client.infer(request_values())["actions"].shape == (6, 7)
            count += 1
        return count

    with serving(max_clients=64) as served, ThreadPoolExecutor(1) as threads:
        answers = threads.submit(honest, served)
        for _ in range(100):
            with raw(served) as connection:
                at = rng.randrange(len(whole))
                connection.send(whole[:at])
                assert isinstance(connection.recv(), str)
        for _ in range(100):
            with socket.create_connection(("127.0.0.1", served.port)) as noise:
                noise.sendall(rng.randbytes(rng.randint(0, 300)))
        asked.set()
        assert answers.result() > 0
        assert served.metrics()["errors"] == 100
        until(lambda: served.metrics()["connections"] <= 1)
