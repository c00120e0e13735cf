"""A simulator process on any host of a Ray cluster, as a worker process is one on this host.

Does not use Ray, and takes and returns plain values only, so that Ray has nothing to unpickle but
numbers, strings, bytes and tuples of them. Loads neither torch nor the policy.
"""

import os
import platform
import sys

import numpy as np

from pi0.ript.config.env import Exactness
from pi0.ript.env.libero.headless import CUDA_VARIABLE
from pi0.ript.env.pool.images import pack_images
from pi0.ript.env.pool.scene_host import SceneHost
from pi0.ript.env.pool.wire import pack_reply, unpack_spec
from pi0.ript.env.ray.versions import read_versions
from pi0.ript.interfaces import Reply
from pi0.ript.types import InitialState


class SimulatorActor:
    """Slots of one core; Ray calls one method after the other, in the order of the requests."""

    _host: SceneHost

    def __init__(self, *, compress: bool) -> None:
        """Choose how images travel; simulators are made by ``start``."""
        self._compress = compress

    def start(
        self,
        spec: tuple,
        num_slots: int,
        max_scenes: int,
        num_steps_wait: int,
        exactness: Exactness,
    ) -> tuple:
        """Load the simulator libraries.

        Args:
            spec: Which images to draw, packed.
            num_slots: Slots of this actor.
            max_scenes: Most scenes loaded at any time.
            num_steps_wait: Settling steps after every restore.
            exactness: Whether the first scene is compared with LIBERO.

        Returns:
            Host name, process id, versions and driver as (name, value) pairs, and why it cannot work, else "".
        """
        # Ray hides GPUs from those that reserve none, and robosuite stumbles over an empty list.
        os.environ.pop(CUDA_VARIABLE, None)
        problem, driver = "", ()
        try:
            self._host = SceneHost(
                unpack_spec(spec), num_slots, max_scenes, num_steps_wait, exactness
            )
            driver = tuple(self._host.driver.items())
        except (ImportError, OSError) as error:
            problem = str(error)
        return platform.node(), os.getpid(), tuple(read_versions().items()), driver, problem

    def restore(
        self,
        worker_slot: int,
        suite: str,
        task_id: int,
        index: int,
        fixture_seed: int,
        state: bytes,
    ) -> tuple:
        """Bring a slot to a settled initial state, given as float64 bytes.

        Returns:
            The packed reply, the bytes of its images, and those of its video; empty where none.
        """
        initial_state = InitialState(
            suite=suite,
            task_id=task_id,
            index=index,
            fixture_seed=fixture_seed,
            state=np.frombuffer(state, dtype=np.float64),
        )
        return self._pack(self._host.restore(worker_slot, initial_state))

    def execute(
        self,
        worker_slot: int,
        actions: bytes,
        observe: bool,  # noqa: FBT001 - a message
        video: bool,  # noqa: FBT001 - a message
    ) -> tuple:
        """Run up to h control steps, float32 [h, 7] as bytes; returns what ``restore`` does."""
        steps = np.frombuffer(actions, dtype=np.float32).reshape(-1, 7)
        return self._pack(self._host.execute(worker_slot, steps, observe=observe, video=video))

    def release(self, worker_slot: int) -> None:
        """Release a slot's scene."""
        self._host.release(worker_slot)

    def modules(self) -> tuple[str, ...]:
        """Return the top-level modules that are loaded."""
        return tuple(sorted({name.partition(".")[0] for name in sys.modules}))

    def _pack(self, reply: Reply) -> tuple:
        images, frames = b"", b""
        if reply.observation is not None:
            images = pack_images(reply.observation.images, compress=self._compress)
        if reply.frames is not None:
            frames = reply.frames.packed
        return pack_reply(reply, self._host.loaded), images, frames
