"""A Ray instance of our own or a cluster that exists. The only file that uses Ray.

Ray moves messages with cloudpickle and trusts every process of a cluster; so do we. Our own messages
are plain values all the same.
"""

import contextlib
import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi0.ript.env.ray.surroundings import import_path, no_local_imports, only_needed_variables

LEAST_STORE_BYTES = 80 * 2**20  # Ray wants at least 75 MiB
SHARED_MEMORY = "/dev/shm"
PROBE_TIMEOUT_S = 10.0
CHECK_TIMEOUT_S = 20.0
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
RESULT_TIMEOUT_S = 30.0  # for a result that is known to have arrived


# Ray connects a process once; the pools of a process share that connection, which has one entry.
_connections: dict[str, "_Connection"] = {}


class RayUnavailableError(OSError):
    """There is no Ray to work with; the message names the reason and what to type."""


class LostActorError(RuntimeError):
    """An actor, its host or its result is lost."""


@dataclass(slots=True, kw_only=True)
class _Connection:
    """What the pools of this process share: their number, and the folder of our instance."""

    folder: str | None
    num_pools: int = 0


class RayCluster:
    """A connection to Ray. The last pool that closes it ends what this process has started.

    Where the program has connected Ray itself, that connection is used and left alone.
    """

    def __init__(self, address: str | None, *, store_bytes: int) -> None:
        """Connect, or start an instance on this host.

        Args:
            address: ``auto`` or ``host:port``; None starts an instance.
            store_bytes: Shared memory for results under way in an instance of our own.

        Raises:
            ValueError: Ray is not installed.
            RayUnavailableError: The cluster cannot be reached or an instance cannot be started.
        """
        self._address = address or "local"
        self._ray = ray = _import_ray()
        if not ray.is_initialized():
            folder = _connect(ray, address, max(store_bytes, LEAST_STORE_BYTES))
            _connections[self._address] = _Connection(folder=folder)
        elif _connections and self._address not in _connections:
            raise RayUnavailableError(
                f"env.ray.address is {address}, but this process is connected to "
                f"{next(iter(_connections))} already; close the simulators there first"
            )
        self._connection = _connections.get(self._address)  # None where the program has connected
        if self._connection is not None:
            self._connection.num_pools += 1

    @property
    def is_ours(self) -> bool:
        """Return whether this process has started the instance for itself alone."""
        return self._connection is not None and self._connection.folder is not None

    def start_actor(
        self, kind: type, *, memory_bytes: int, environment: Mapping[str, str], **arguments: object
    ) -> Any:
        """Request an actor with a core of its own and return its handle at once.

        Args:
            kind: Class of the actor; its module must be importable on every host.
            memory_bytes: Memory that it needs on its host.
            environment: Variables of the process, set before it starts.
            arguments: Of the constructor.
        """
        # In an instance of our own the cores and the memory of the host have been shared out already.
        needs = {"num_cpus": 0} if self.is_ours else {"num_cpus": 1, "memory": memory_bytes}
        options = {"num_gpus": 0, "max_restarts": 0, "scheduling_strategy": "SPREAD", **needs}
        folder = self._connection and self._connection.folder
        runtime = {"env_vars": {**environment, **(import_path(Path(folder)) if folder else {})}}
        return self._ray.remote(kind).options(**options, runtime_env=runtime).remote(**arguments)

    def wait(self, results: Sequence[Any], timeout_s: float) -> list[Any]:
        """Return the handles whose results have arrived; block until there is one, or so long."""
        arrived, waiting = self._ray.wait(list(results), num_returns=len(results), timeout=0)
        if arrived or timeout_s <= 0:
            return arrived
        return self._ray.wait(waiting, num_returns=1, timeout=timeout_s)[0]

    def result(self, handle: Any) -> Any:
        """Return the result behind a handle that ``wait`` has returned.

        Raises:
            LostActorError: There is none; the message says why.
        """
        try:
            return self._ray.get(handle, timeout=RESULT_TIMEOUT_S)
        except self._ray.exceptions.RayError as error:
            raise LostActorError(_reason(error)) from None

    def end_actor(self, actor: Any) -> None:
        """End an actor now, also one that has not started yet."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(actor)

    def free_resources(self) -> str:
        """Return the cores and memory that are not in use, for a message."""
        everything, free = self._ray.cluster_resources(), self._ray.available_resources()
        cores = f"{free.get('CPU', 0):g} of {everything.get('CPU', 0):g} cores"
        return f"{cores} and {free.get('memory', 0) / 1e9:.1f} GB of memory are free in all"

    def close(self) -> None:
        """Leave; safe to call twice."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.num_pools -= 1
        if connection.num_pools == 0:
            del _connections[self._address]
            with _own_signal_handlers():
                self._ray.shutdown()
            if connection.folder is not None:
                shutil.rmtree(connection.folder, ignore_errors=True)


def require_shared_memory(folder: str, needed_bytes: int) -> None:
    """Raise ``RayUnavailableError`` where results under way do not fit into shared memory."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise RayUnavailableError(
            f"{folder} has {free / 1e6:.0f} MB left, Ray needs {needed_bytes / 1e6:.0f} MB of it; give "
            f"the container more (docker run --shm-size={needed_bytes // 10**6 + 100}m), or set "
            "env.backend to process"
        )


def _import_ray() -> Any:
    # Not at the top: Ray is optional, takes a second, and adds to sys.path when it is imported.
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise ValueError(
            "env.backend is ray, but Ray is not installed; type: pip install 'pi0-ript[ray]', "
            "or set env.backend to process"
        ) from None


def _connect(ray: Any, address: str | None, store_bytes: int) -> str | None:
    """Connect this process and return the folder of an instance of our own."""
    # No statistics leave this machine, also where the cluster is not ours.

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with _own_signal_handlers(), _errors_in_one_line(address), no_local_imports():
        if address is None:
            require_shared_memory(SHARED_MEMORY, store_bytes)
            return _start_instance(ray, store_bytes)
        if address != "auto":
            _probe(address)
        ray.init(address=address, **QUIET)
    return None


def _start_instance(ray: Any, store_bytes: int) -> str:
    # A folder of its own: the default one belongs to the first user of Ray on this host. Not below
    # TMPDIR, which may be too long for the name of a socket.

    folder = tempfile.mkdtemp(prefix="ript-ray-", dir=os.environ.get("RAY_TMPDIR", "/tmp"))
    with only_needed_variables(), contextlib.ExitStack() as on_failure:
        on_failure.callback(shutil.rmtree, folder, ignore_errors=True)
        ray.init(
            address="local",  # not what RAY_ADDRESS says
            include_dashboard=False,
            object_store_memory=store_bytes,
            _temp_dir=folder,
            _system_config={"enable_worker_prestart": False, "prestart_worker_first_driver": False},
            **QUIET,
        )
        on_failure.pop_all()
    return folder


@contextlib.contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Keep the program's handler of SIGTERM, which Ray replaces."""
    earlier = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not the main thread, so Ray has replaced nothing
            signal.signal(signal.SIGTERM, earlier)


@contextlib.contextmanager
def _errors_in_one_line(address: str | None) -> Iterator[None]:
    try:
        yield
    except RayUnavailableError:
        raise
    except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        where = "no Ray instance could be started" if address is None else f"no Ray at {address}"
        raise RayUnavailableError(
            f"{where}: {' '.join(str(error).split())}; this host must be part of the cluster "
            "(ray start --address=HEAD:6379), see env.ray.address"
        ) from None


def _probe(address: str) -> None:
    """Raise ``ConnectionError`` unless a Ray of our version responds, which Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PROBE_TIMEOUT_S).close()
    except OSError as error:
        raise ConnectionError(f"{error.strerror or error}") from None
    command = [
        sys.executable,
        "-P",
        "-m",
        "ray.scripts.scripts",
        "health-check",
        "--address",
        address,
    ]
    try:
        check = subprocess.run(
            command, timeout=CHECK_TIMEOUT_S, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        raise ConnectionError(
            f"what listens there has not responded as Ray for {CHECK_TIMEOUT_S:g} s"
        ) from None
    if check.returncode:
        raise ConnectionError(check.stderr.strip().rpartition("\n")[2])


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "Traceback" in str(error):
        return lines[-1]  # the exception itself; the lines before it are its traceback
    return lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}"
