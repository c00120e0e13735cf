"""A simulator process of a Ray cluster: what a worker process is on this host, anywhere.

Knows nothing of Ray, and takes and gives plain values only, so that Ray has nothing to unpickle but
numbers, strings, bytes and tuples of them. Loads neither torch nor the policy.
"""

import os
import platform
import sys

import numpy as np

from pi0.records import ObservationSpec
from pi0.ript.env.libero.headless import CUDA_VARIABLE
from pi0.ript.env.pool.images import pack_images
from pi0.ript.env.pool.scene_host import SceneHost
from pi0.ript.env.pool.wire import pack_reply
from pi0.ript.env.ray.versions import read_versions
from pi0.ript.interfaces import Reply
from pi0.ript.types import InitialState


class SimulatorActor:
    """Slots of one core; Ray calls one method after the other, in the order of the requests."""

    _host: SceneHost

    def __init__(self, *, compress: bool) -> None:
        """Choose how pictures travel; simulators come with ``start``."""
        self._compress = compress

    def start(self, spec: tuple, num_slots: int, max_scenes: int, num_steps_wait: int) -> tuple:
        """Load the simulator libraries.

        Args:
            spec: Cameras, height, width and quality of the pictures.
            num_slots: Slots of this actor.
            max_scenes: Most scenes loaded at any time.
            num_steps_wait: Settling steps after every restore.

        Returns:
            Host name, process id, versions as (name, version) pairs, and why it cannot work, else "".
            Commands answer with a packed reply, its pictures and its film.
        """
        # Ray hides GPUs from those that reserve none, and robosuite stumbles over an empty list.
        os.environ.pop(CUDA_VARIABLE, None)
        cameras, height, width, quality = spec
        observations = ObservationSpec(cameras=cameras, height=height, width=width, quality=quality)
        problem = ""
        try:
            self._host = SceneHost(observations, num_slots, max_scenes, num_steps_wait)
        except (ImportError, OSError) as error:
            problem = str(error)
        return platform.node(), os.getpid(), tuple(read_versions().items()), problem

    def restore(
        self, place: int, suite: str, task_id: int, index: int, fixture_seed: int, state: bytes
    ) -> tuple:
        """Bring a slot to the settled initial state, float64 bytes, and return the reply."""
        initial_state = InitialState(
            suite=suite,
            task_id=task_id,
            index=index,
            fixture_seed=fixture_seed,
            state=np.frombuffer(state, dtype=np.float64),
        )
        return self._pack(self._host.restore(place, initial_state))

    def execute(
        self,
        place: int,
        actions: bytes,
        observe: bool,  # noqa: FBT001 - a message
        video: bool,  # noqa: FBT001 - a message
    ) -> tuple:
        """Run up to h control steps, float32 [h, 7] bytes, and return the reply."""
        chunk = np.frombuffer(actions, dtype=np.float32).reshape(-1, 7)
        return self._pack(self._host.execute(place, chunk, observe=observe, video=video))

    def release(self, place: int) -> None:
        """Let go of a slot's scene."""
        self._host.release(place)

    def modules(self) -> tuple[str, ...]:
        """Return the top-level modules that are loaded."""
        return tuple(sorted({name.partition(".")[0] for name in sys.modules}))

    def _pack(self, reply: Reply) -> tuple:
        observe = reply.observation
        images = b"" if observe is None else pack_images(observe.images, compress=self._compress)
        video = b"" if reply.frames is None else reply.frames.packed
        return pack_reply(reply, self._host.loaded), images, video
