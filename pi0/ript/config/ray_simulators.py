"""Settings of simulators on other hosts."""

from dataclasses import dataclass

from pi0.ript.config.checks import require as _require

MAX_PORT = 65535


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """Simulators as Ray actors (``env.backend: ray``, needs ``pip install 'pi0-ript[ray]'``).

    Attributes:
        address: ``auto`` (the cluster this host belongs to) or ``host:port`` of a cluster's head; null starts an
            instance on this host for the run alone.
        compress_images: Send pictures compressed, without loss: fewer bytes, more work for both ends.
        start_timeout_s: Seconds to wait for the first simulator; raise it where a cluster starts its hosts on
            demand.
    """

    address: str | None = None
    compress_images: bool = False
    start_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        _require(
            self.address is None or self.address == "auto" or _is_host_and_port(self.address),
            f"env.ray.address must be null, auto or host:port, got {self.address!r}",
        )
        _require(
            self.start_timeout_s > 0,
            f"env.ray.start_timeout_s must be > 0, got {self.start_timeout_s}",
        )


def _is_host_and_port(address: str) -> bool:
    host, _, port = address.rpartition(":")
    is_port = port.isascii() and port.isdigit() and 1 <= int(port) <= MAX_PORT
    return is_port and host != "" and "/" not in host
