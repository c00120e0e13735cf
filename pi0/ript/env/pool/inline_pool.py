"""Simulator slots in this process."""

import os
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pi0.records import ObservationSpec
from pi0.ript.config.env import Exactness
from pi0.ript.env.checks import check_actions, check_spec
from pi0.ript.env.initial_states import check_initial_state
from pi0.ript.env.libero.headless import EGL_VARIABLE
from pi0.ript.env.pool.ledger import SlotLedger
from pi0.ript.env.pool.scene_host import SceneHost
from pi0.ript.env.pool.wire import require_exact
from pi0.ript.env.resources import read_machine, require_memory
from pi0.ript.interfaces import Reply
from pi0.ript.types import InitialState


class InlinePool(SlotLedger):
    """All slots in this process; requests run, in order, when ``wait`` is called.

    Example: ``with InlinePool(policy.spec, 1, max_scenes=1, num_steps_wait=10) as pool: ...``
    """

    def __init__(
        self,
        spec: ObservationSpec,
        num_slots: int,
        *,
        max_scenes: int,
        num_steps_wait: int,
        egl_device: int | None = None,
        exactness: Exactness = "skip",
    ) -> None:
        """Load the simulator libraries; scenes are built when first needed.

        Args:
            spec: Which images to draw.
            num_slots: How many episodes can be under way at once.
            max_scenes: Most scenes loaded at any time.
            num_steps_wait: Settling steps after every restore.
            egl_device: Which GPU draws, as EGL counts them, if this process has drawn nothing yet;
                None leaves it to the environment.
            exactness: Whether the first scene of a process is compared with LIBERO, as ``env.exactness`` says.

        Raises:
            ValueError: Too little memory for so many scenes, or a camera that does not exist.
        """
        super().__init__(num_slots, 1, max_scenes)
        check_spec(spec)
        require_memory(1, num_slots, max_scenes, spec, read_machine())
        if egl_device is not None:
            os.environ[EGL_VARIABLE] = str(egl_device)
        self._host = SceneHost(spec, num_slots, max_scenes, num_steps_wait, exactness)
        self._queue: deque[Callable[[], Reply]] = deque()

    @property
    def driver(self) -> Mapping[str, str]:
        """Return what draws, see ``read_driver``."""
        return self._host.driver

    def restore(self, slot: int, initial_state: InitialState) -> None:
        """Queue bringing the slot to the settled initial state."""
        check_initial_state(initial_state)
        self._begin_restore(slot, initial_state)
        self._queue.append(partial(self._host.restore, slot, initial_state))

    def execute(
        self,
        slot: int,
        actions: NDArray[np.float32],
        *,
        observe: bool = True,
        video: bool = False,
    ) -> None:
        """Queue up to h control steps, float32 [h, 7]; ``observe`` and ``video`` say what is drawn."""
        check_actions(actions)
        self._begin(slot)
        self._queue.append(partial(self._host.execute, slot, actions, observe=observe, video=video))

    def wait(self) -> list[Reply]:
        """Run all queued requests and return their replies.

        Raises:
            PoolClosedError: The pool was closed; nothing is under way any more.
            ExactnessError: The engine does not give here what LIBERO gives.
        """
        self._require_open()
        assert self._queue, "wait needs a request under way"
        replies: list[Reply] = []
        while self._queue:
            reply = self._queue.popleft()()
            require_exact(reply)
            self._busy.discard(reply.slot)
            replies.append(reply)
            self._ledger(reply.slot).loaded = self._host.loaded
        return replies

    def release(self, slot: int) -> None:
        """Release the slot's scene after its episode, so that it may make room for another."""
        self._ledger(slot).release(slot)
        self._host.release(slot)

    def drop_scenes(self) -> None:
        """Free the scenes that no slot holds."""
        self._host.drop_scenes()

    def wait_until_ready(self) -> None:
        """Return at once: the libraries were loaded, and rendering tried, by the constructor."""

    def close(self) -> None:
        """Free all scenes and drop queued requests; safe to call twice."""
        super().close()
        self._queue.clear()
        self._host.close()
