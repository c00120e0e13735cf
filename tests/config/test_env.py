"""Settings of a Ray cluster are checked before anything is started."""

import pytest

from pi0.ript.config.env import RayConfig
from pi0.ript.config.schema import EnvConfig


@pytest.mark.parametrize("address", [None, "auto", "head:6379", "10.0.0.1:1", "[::1]:65535"])
def test_addresses_that_can_be(address):
    assert RayConfig(address=address).address == address


@pytest.mark.parametrize(
    "address", ["", "head", "head:", ":6379", "head:0", "head:65536", "head:x", "ray://head:10001"]
)
def test_addresses_that_cannot_be_are_refused(address):
    with pytest.raises(ValueError, match=r"env\.ray\.address must be null, auto or host:port, got"):
        RayConfig(address=address)


def test_a_cluster_wants_a_number_of_workers():
    cluster = RayConfig(address="auto")
    with pytest.raises(ValueError, match=r"env\.num_workers must be a number .* got auto"):
        EnvConfig(backend="ray", ray=cluster)

    assert EnvConfig(backend="ray", ray=cluster, num_workers=8).uses_cluster
    assert not EnvConfig(backend="ray").uses_cluster
    assert not EnvConfig(backend="process", ray=cluster).uses_cluster
