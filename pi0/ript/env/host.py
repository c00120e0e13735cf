"""Scenes behind slots: keeps a bounded number of scenes loaded and answers commands one by one."""

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pi0.records import ObservationSpec
from pi0.ript.env.headless import load_scene_class
from pi0.ript.interfaces import Reply
from pi0.ript.types import InitialState

if TYPE_CHECKING:
    from pi0.ript.env.scene import Scene

SceneKey = tuple[str, int]


class SceneHost:
    """The slots of one process. Commands never raise: what goes wrong is told in the reply.

    At most ``max(max_scenes, tasks its slots are on)`` scenes are loaded: a slot keeps the scene of
    its last restore until it is restored to another, because only the caller knows that an episode
    is over. Memory is bounded by the larger of ``max_scenes`` and the slots per process.
    """

    def __init__(
        self, spec: ObservationSpec, num_slots: int, max_scenes: int, num_steps_wait: int
    ) -> None:
        """Load the simulator libraries; scenes are built when a slot first needs them."""
        self._scene_class = load_scene_class()
        self._spec = spec
        self._num_slots = num_slots
        self._max_scenes = max_scenes
        self._num_steps_wait = num_steps_wait
        self._scenes: OrderedDict[SceneKey, Scene] = OrderedDict()
        self._key_of_slot: dict[int, SceneKey] = {}

    @property
    def loaded(self) -> tuple[SceneKey, ...]:
        """Return the loaded scenes, least recently used first."""
        return tuple(self._scenes)

    def restore(self, slot: int, initial_state: InitialState) -> Reply:
        """Bring a slot to a settled initial state."""
        timings: dict[str, float] = {}
        try:
            key = (initial_state.suite, initial_state.task_id)
            self._key_of_slot[slot] = key
            scene = self._scene(key, timings)
            started, drawn = time.perf_counter(), scene.render_seconds
            observation = scene.restore(slot, initial_state)
            _note(timings, "restore_s", started, scene.render_seconds - drawn)
        except Exception as error:  # noqa: BLE001 - the boundary: a slot crashes, not its process
            return Reply(slot=slot, observation=None, is_success=False, num_steps=0,
                         error=_describe(error), timings=timings)  # fmt: skip
        return Reply(
            slot=slot, observation=observation, is_success=False, num_steps=0, timings=timings
        )

    def execute(self, slot: int, actions: NDArray[np.float32]) -> Reply:
        """Run up to h control steps in a slot."""
        timings: dict[str, float] = {}
        try:
            if slot not in self._key_of_slot:
                raise RuntimeError("the slot lost its simulation and must be restored first")
            scene = self._scenes[self._key_of_slot[slot]]
            started, drawn = time.perf_counter(), scene.render_seconds
            result = scene.execute(slot, actions)
            _note(timings, "physics_s", started, scene.render_seconds - drawn)
        except Exception as error:  # noqa: BLE001 - the boundary: a slot crashes, not its process
            return Reply(slot=slot, observation=None, is_success=False, num_steps=0,
                         error=_describe(error), timings=timings)  # fmt: skip
        return Reply(
            slot=slot,
            observation=result.observation,
            is_success=result.is_success,
            num_steps=result.num_steps,
            timings=timings,
        )

    def close(self) -> None:
        """Free all scenes; safe to call twice."""
        while self._scenes:
            self._scenes.popitem()[1].close()

    def _scene(self, key: SceneKey, timings: dict[str, float]) -> "Scene":
        if key not in self._scenes:
            started = time.perf_counter()
            self._make_room()
            self._scenes[key] = self._scene_class(
                *key, self._spec, self._num_slots, self._num_steps_wait
            )
            _note(timings, "build_s", started, 0.0)
        self._scenes.move_to_end(key)
        return self._scenes[key]

    def _make_room(self) -> None:
        # A scene with an episode under way stays, even if that exceeds the limit for a while.
        in_use = set(self._key_of_slot.values())
        for key in [key for key in self._scenes if key not in in_use]:
            if len(self._scenes) < self._max_scenes:
                return
            self._scenes.pop(key).close()


def _note(timings: dict[str, float], stage: str, started: float, drawing: float) -> None:
    timings[stage] = time.perf_counter() - started - drawing
    if drawing:
        timings["render_s"] = drawing


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
