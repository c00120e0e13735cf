"""Addresses without a Ray cluster are refused within a minute, in one line."""

import socket
import time

import pytest

from pi0.ript.config.env import RayConfig
from pi0.ript.env.ray.cluster import RayUnavailableError
from tests.env.pools import ray_pool


def connect(address):
    ray_pool(ray=RayConfig(address=address))


@pytest.fixture
def listener():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener


def test_an_address_where_nothing_listens_is_refused_at_once(listener):
    port = listener.getsockname()[1]
    listener.close()
    started = time.monotonic()

    with pytest.raises(RayUnavailableError, match=rf"^no Ray at 127.0.0.1:{port}: .*refused.*$"):
        connect(f"127.0.0.1:{port}")

    assert time.monotonic() - started < 10


@pytest.mark.slow
def test_a_port_of_something_else_is_refused_within_a_minute(listener):
    port = listener.getsockname()[1]
    started = time.monotonic()

    with pytest.raises(RayUnavailableError, match="has not responded as Ray"):
        connect(f"127.0.0.1:{port}")

    assert time.monotonic() - started < 60


def test_auto_needs_a_cluster_on_this_host(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(RayUnavailableError, match=r"^no Ray at auto: .*env\.ray\.address$"):
        connect("auto")
