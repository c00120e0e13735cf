"""Simulator slots spread over the actors of a Ray cluster, on any number of hosts."""

import time
from collections.abc import Callable, Iterable, Mapping

from pi0.records import ObservationSpec
from pi0.ript.config.env import Exactness, RayConfig
from pi0.ript.env.checks import check_spec
from pi0.ript.env.libero.headless import RenderingError
from pi0.ript.env.pool.deadlines import TimeLimits
from pi0.ript.env.pool.images import image_bytes
from pi0.ript.env.pool.ledger import SceneKey
from pi0.ript.env.pool.messages import MalformedMessageError
from pi0.ript.env.pool.wire import blame_oldest
from pi0.ript.env.pool.worker_pool import WorkerPool
from pi0.ript.env.pool.worker_process import WorkerStartError
from pi0.ript.env.ray.actor import SimulatorActor
from pi0.ript.env.ray.cluster import LostActorError, RayCluster, RayUnavailableError
from pi0.ript.env.ray.versions import check_driver, check_versions, read_versions
from pi0.ript.env.ray.worker import ActorSettings, RayWorker
from pi0.ript.env.resources import predict_memory, read_machine, require_memory
from pi0.ript.interfaces import Fault, Reply

MAX_STARTS = 3  # in a row without one that worked
STORED_IMAGES = 2  # per slot: those under way and those that are being copied


class RayPool(WorkerPool[RayWorker]):
    """Slots spread round-robin over Ray actors, one actor per core, each with scenes of its own.

    A core that the cluster does not have yet is used from the moment it is there: its slots take no
    episode before, see ``can_restore``. An actor that ends, with its host or alone, raises, sends
    malformed messages or takes too long is replaced, as in the process pool; its episodes run again
    where there is room.

    Example: ``with RayPool(policy.spec, 8, 2, ray=RayConfig(), max_scenes=1, num_steps_wait=10,
    timeout_s=120.0) as pool: ...``
    """

    _kind = "actor"

    def __init__(
        self,
        spec: ObservationSpec,
        num_slots: int,
        num_workers: int,
        *,
        ray: RayConfig,
        max_scenes: int,
        num_steps_wait: int,
        timeout_s: float,
        egl_device: int | None = None,
        exactness: Exactness = "skip",
    ) -> None:
        """Connect to Ray and request the actors; they start and load libraries on their own time.

        Args:
            spec: Which images to draw.
            num_slots: How many episodes can be under way at once.
            num_workers: Actors, at most one per slot.
            ray: Which cluster, and how images travel.
            max_scenes: Most scenes loaded in an actor at any time.
            num_steps_wait: Settling steps after every restore.
            timeout_s: Most seconds that a request may take; a limit of its own, learned from what
                such requests take, applies sooner.
            egl_device: Which GPU of its host draws, as EGL counts them; None leaves it to the host.
            exactness: Whether the first scene of a process is compared with LIBERO, as ``env.exactness`` says.

        Raises:
            ValueError: A camera that does not exist, or too little memory on this host.
            RayUnavailableError: No Ray can be reached or started.
        """
        super().__init__(num_slots, num_workers, max_scenes)
        check_spec(spec)
        if ray.address is None:
            require_memory(self.num_workers, num_slots, max_scenes, spec, read_machine())
        self._settings = ActorSettings(
            kind=SimulatorActor,
            spec=spec,
            max_scenes=max_scenes,
            num_steps_wait=num_steps_wait,
            exactness=exactness,
            compress=ray.compress_images,
            egl_device=egl_device,
            memory_bytes=predict_memory(1, -(-num_slots // self.num_workers), max_scenes, spec),
            limits=TimeLimits(timeout_s),
            start_timeout_s=ray.start_timeout_s,
        )
        self._versions = read_versions()
        self._driver: Mapping[str, str] = {}
        self._first_host = ""
        self._num_starts = 0
        self._failed_starts = [0] * self.num_workers
        store_bytes = STORED_IMAGES * num_slots * image_bytes(spec)
        self._cluster = RayCluster(ray.address, store_bytes=store_bytes)
        self._workers = [self._start(number) for number in range(self.num_workers)]

    @property
    def driver(self) -> Mapping[str, str]:
        """Return what draws, see ``read_driver``: the same on all hosts; empty before the first actor is ready."""
        return self._driver

    def can_restore(self, slot: int, scene: SceneKey) -> bool:
        """Return whether the slot's actor has started and the scenes of its other slots leave room.

        Where no actor has started at all, this waits for the first.

        Raises:
            RayUnavailableError: None started in time; ``wait`` names what else may go wrong.
        """
        self._await_actors(any)
        return self._worker(slot).is_ready and super().can_restore(slot, scene)

    def wait_until_ready(self) -> None:
        """Block until all actors have loaded their libraries; on a cluster, which may grow, until one has.

        Raises:
            RayUnavailableError: They did not start in time; ``wait`` names what else may go wrong.
        """
        self._await_actors(all if self._cluster.is_ours else any)

    def worker_modules(self) -> list[frozenset[str]]:
        """Return the top-level modules each actor has imported; only while nothing is under way."""
        assert not self._busy, "worker_modules needs an idle pool"
        self._await_actors(all)
        return [worker.modules() for worker in self._workers]

    def close(self) -> None:
        """End every actor, and Ray if this pool was the last to use what we started; safe to call twice."""
        super().close()
        for worker in self._workers:
            worker.kill()
        if self._cluster.is_ours:
            for worker in self._workers:
                worker.join()
        self._workers = []
        self._cluster.close()

    def _start(self, number: int, missing_s: float | None = None) -> RayWorker:
        return RayWorker(
            number,
            self._cluster,
            self._settings,
            num_slots=len(self._slots_of(number)),
            missing_s=missing_s,
        )

    def _await_actors(self, quantifier: Callable[[Iterable[bool]], bool]) -> None:
        """Block until ``any`` or ``all`` actors can be used; replies that arrive meanwhile are kept."""
        timeout_s = self._settings.start_timeout_s
        deadline = time.monotonic() + timeout_s
        while not quantifier(worker.is_ready for worker in self._workers):
            left = deadline - time.monotonic()
            if left <= 0:
                raise RayUnavailableError(
                    f"no simulator started within {timeout_s:g} s: each needs a core and "
                    f"{self._settings.memory_bytes / 1e9:.1f} GB of memory on one host, "
                    f"{self._cluster.free_resources()}; free some, or raise env.ray.start_timeout_s "
                    "where hosts are started on demand"
                )
            self._pending_replies += self._receive_any(left)

    def _receive(self) -> list[Reply]:
        replies: list[Reply] = []
        num_starts = self._num_starts
        while not replies and self._num_starts == num_starts:
            queues = [worker.requests for worker in self._workers if worker.requests]
            deadline = min(queue.deadline for queue in queues)
            replies += self._receive_any(deadline - time.monotonic())
            for worker in [worker for worker in self._workers if worker.requests.is_overdue]:
                replies += self._replace_silent(worker)
        return replies

    def _receive_any(self, timeout_s: float) -> list[Reply]:
        """Wait for results of any actors and return the replies among them."""
        workers = {worker.oldest_result: worker for worker in self._workers}
        workers.pop(None, None)
        finished = self._cluster.wait(list(workers), max(0.0, timeout_s))
        return [reply for result in finished for reply in self._receive_from(workers[result])]

    def _receive_from(self, worker: RayWorker) -> list[Reply]:
        """Take the oldest result of an actor: the end of its start, or a reply."""
        try:
            if not worker.is_ready:
                self._admit(worker)
                return []
            reply = self._accept(worker, *worker.receive())
        except LostActorError as error:
            if not worker.is_ready:
                self._count_failed_start(worker, str(error))
            return self._replace(worker, "died", str(error))
        except MalformedMessageError as error:
            return self._replace(worker, "malformed", f"{worker} sent a malformed message: {error}")
        if reply.fault == "raised":
            return [reply, *self._replace(worker, "lost", reply.error)]
        return [reply]

    def _admit(self, worker: RayWorker) -> None:
        """Use an actor from here on, if it can work, has our versions and draws as the first one does."""
        versions, driver, problem = worker.receive_start()
        if problem:
            raise RenderingError(f"a simulator on host {worker.host} could not start: {problem}")
        check_versions(worker.host, versions, self._versions)
        if not self._driver:
            self._driver, self._first_host = driver, worker.host
        check_driver(worker.host, driver, self._first_host, self._driver)
        self._failed_starts[worker.number] = 0
        self._num_starts += 1

    def _count_failed_start(self, worker: RayWorker, reason: str) -> None:
        self._failed_starts[worker.number] += 1
        if self._failed_starts[worker.number] == MAX_STARTS:
            raise WorkerStartError(
                f"a simulator actor ended {MAX_STARTS} times while starting: {reason}; is pi0-ript "
                "installed on every host, and is there enough memory?"
            )

    def _replace_silent(self, worker: RayWorker) -> list[Reply]:
        if not worker.is_ready:
            reason = f"no host had room for its simulator within {worker.requests.limit_s:g} s"
            return self._replace(worker, "lost", reason)
        reason = f"{worker} sent no reply for {worker.requests.limit_s:g} s"
        return self._replace(worker, "hung", reason, worker.requests.silent_s)

    def _replace(
        self, worker: RayWorker, fault: Fault, reason: str, missing_s: float = 0.0
    ) -> list[Reply]:
        """Replace an actor by another one; its oldest request gets a reply with the fault."""
        worker.kill()
        return blame_oldest(self._start_replacement(worker, missing_s), fault, reason)
