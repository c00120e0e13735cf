"""Settings of how simulators are run, here or as Ray actors on other hosts."""

from dataclasses import dataclass, field
from typing import Literal

from pi0.ript.config.base import Auto, require

MAX_PORT = 65535

Backend = Literal["inline", "process", "ray"]
Schedule = Literal["ready", "lockstep"]
Exactness = Literal["check", "warn", "skip"]


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """Simulators as Ray actors (``env.backend: ray``, needs ``pip install 'pi0-ript[ray]'``).

    Attributes:
        address: ``auto`` (the cluster this host belongs to) or ``host:port`` of a cluster's head; null starts an
            instance on this host for the run alone.
        compress_images: Send images compressed, without loss: fewer bytes, more work for both ends.
        start_timeout_s: Seconds to wait for the first simulator; raise it where a cluster starts its hosts on
            demand.
    """

    address: str | None = None
    compress_images: bool = False
    start_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        require(
            self.address is None or self.address == "auto" or _is_host_and_port(self.address),
            f"env.ray.address must be null, auto or host:port, got {self.address!r}",
        )
        require(
            self.start_timeout_s > 0,
            f"env.ray.start_timeout_s must be > 0, got {self.start_timeout_s}",
        )


def _is_host_and_port(address: str) -> bool:
    host, _, port = address.rpartition(":")
    is_port = port.isascii() and port.isdigit() and 1 <= int(port) <= MAX_PORT
    return is_port and host != "" and "/" not in host


@dataclass(frozen=True, kw_only=True)
class EnvConfig:
    """How simulators are run.

    Attributes:
        backend: Where the parallel runner has its simulators: ``process`` in worker processes, ``ray`` in
            actors of a Ray cluster, ``inline`` all in this process. The serial runner has its one simulator
            in this process.
        num_workers: Worker processes or actors; ``auto`` takes one per core, at most one per slot and as many as
            memory allows; null means the same. A cluster at ``ray.address`` wants a number.
        max_scenes: Most scenes (100 MB each within a suite, up to 300 MB) loaded per worker at any time, fewer where
            memory is too small; the least recently used one that no episode is in makes room for another.
        schedule: ``ready`` keeps every simulator going; ``lockstep`` waits for the slowest one at every policy step
            and is there for comparison only. The episodes are the same.
        egl_device: Which GPU draws, as EGL counts them; ``auto`` takes the one the policy is on, unless the
            environment variable MUJOCO_EGL_DEVICE_ID says otherwise.
        exactness: Whether the first scene of every simulator process is compared with LIBERO's own environment, bit
            for bit, before it is used (under a second): ``check`` ends the run where they differ, ``warn`` goes on with a
            warning, ``skip`` does not look.
        timeout_s: Most seconds a worker may take for a request before it counts as hung and is replaced; a
            limit of its own, learned from what such requests take, applies sooner (docs/robustness.md).
        max_attempts: How often an episode is tried whose own simulation raises an error, before it is reported
            as crashed; one whose physics diverge is not tried again, as it would diverge again.
        max_restarts: How many workers may be replaced in one collection or evaluation, whatever ended them,
            before the run saves a checkpoint and stops.
        ray: Simulators on other hosts.
    """

    backend: Backend = "process"
    num_workers: int | Auto | None = "auto"
    max_scenes: int = 10
    schedule: Schedule = "ready"
    egl_device: int | Auto = "auto"
    exactness: Exactness = "check"
    timeout_s: float = 120.0
    max_attempts: int = 3
    max_restarts: int = 20
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        require(
            self.num_workers in ("auto", None) or self.num_workers >= 1,
            f"env.num_workers must be >= 1, auto or null, got {self.num_workers}",
        )
        require(
            self.egl_device == "auto" or self.egl_device >= 0,
            f"env.egl_device must be >= 0 or auto, got {self.egl_device}",
        )
        require(self.max_scenes >= 1, f"env.max_scenes must be >= 1, got {self.max_scenes}")
        require(self.timeout_s > 0, f"env.timeout_s must be > 0, got {self.timeout_s}")
        require(self.max_attempts >= 1, f"env.max_attempts must be >= 1, got {self.max_attempts}")
        require(self.max_restarts >= 0, f"env.max_restarts must be >= 0, got {self.max_restarts}")
        require(
            not self.uses_cluster or self.num_workers not in ("auto", None),
            f"env.num_workers must be a number where env.ray.address is {self.ray.address}: the cores of the "
            f"cluster that simulators may take, got {self.num_workers}",
        )

    @property
    def uses_cluster(self) -> bool:
        """Return whether simulators run in a cluster that exists without this run."""
        return self.backend == "ray" and self.ray.address is not None
