"""The scenes of a process's slots: keeps a bounded number loaded and runs requests one by one."""

import logging
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pi0.images import encode_observation
from pi0.records import Observation, ObservationSpec
from pi0.ript.config.env import Exactness
from pi0.ript.env.pool.ledger import SceneKey
from pi0.ript.env.pool.simulator import find_difference, load_simulator, trim
from pi0.ript.env.pool.wire import lost
from pi0.ript.interfaces import DivergedError, ExactnessError, Reply
from pi0.ript.packed_frames import PackedFrames
from pi0.ript.types import InitialState

if TYPE_CHECKING:
    from pi0.ript.env.libero.scene import Scene

logger = logging.getLogger(__name__)

CHECK_STEPS = 3  # of the comparison with LIBERO; ript doctor takes 30


class SceneHost:
    """The slots of one process, numbered within it. Requests never raise: replies have the error.

    At most ``max_scenes`` scenes are ever loaded. A slot holds the scene of its last restore until
    it is released; the least recently used scene that no slot holds makes room for another.

    Attributes:
        driver: What draws here, see ``read_driver``.
    """

    def __init__(
        self,
        spec: ObservationSpec,
        num_slots: int,
        max_scenes: int,
        num_steps_wait: int,
        exactness: Exactness = "skip",
    ) -> None:
        """Load the simulator libraries; scenes are built when a slot first needs them."""
        self._exactness: Exactness = exactness
        self._make_scene, self.driver = load_simulator()
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
        """Bring a slot to a settled initial state and return the first observation."""
        timings: dict[str, float] = {}
        counts: dict[str, int] = {}
        try:
            key = (initial_state.suite, initial_state.task_id)
            self._key_of_slot.pop(slot, None)
            scene = self._scene(key, timings, counts)
            self._key_of_slot[slot] = key
            kind = "restores_cached" if scene.is_settled(initial_state) else "restores_cold"
            started, drawn = time.perf_counter(), scene.render_seconds
            rendered = scene.restore(slot, initial_state)
            _note(timings, "restore_s", started, scene.render_seconds - drawn)
            observation = self._encode(rendered, timings)
            counts[kind] = 1
        except ExactnessError as error:
            return self._inexact(slot, error)
        except DivergedError as error:
            return self._diverged(slot, error, timings)
        except Exception as error:  # noqa: BLE001 - the boundary: a slot crashes, not its process
            return self._crashed(slot, error, timings)
        return Reply(
            slot=slot,
            observation=observation,
            is_success=False,
            num_steps=0,
            timings=timings,
            counts=counts,
        )

    def execute(
        self, slot: int, actions: NDArray[np.float32], *, observe: bool, video: bool = False
    ) -> Reply:
        """Run up to h control steps in a slot.

        Args:
            slot: Which slot; one without a simulation replies with the fault ``lost``.
            actions: float32 [h, 7].
            observe: Whether the reply needs an observation if the task is not solved.
            video: Whether an image is recorded after each control step.
        """
        timings: dict[str, float] = {}
        if slot not in self._key_of_slot:
            return lost(slot, "the slot lost its simulation and must be restored first")
        try:
            scene = self._scenes[self._key_of_slot[slot]]
            started, drawn, recorded = (
                time.perf_counter(),
                scene.render_seconds,
                scene.video_seconds,
            )
            result = scene.execute(
                slot, actions, observe=observe, observe_when_solved=False, video=video
            )
            recorded = scene.video_seconds - recorded
            _note(timings, "physics_s", started + recorded, scene.render_seconds - drawn)
            frames = _pack(timings, result.frames, recorded)
            observation = self._encode(result.observation, timings)
        except DivergedError as error:
            return self._diverged(slot, error, timings)
        except Exception as error:  # noqa: BLE001 - the boundary: a slot crashes, not its process
            return self._crashed(slot, error, timings)
        return Reply(
            slot=slot,
            observation=observation,
            is_success=result.is_success,
            num_steps=result.num_steps,
            frames=frames,
            timings=timings,
        )

    def release(self, slot: int) -> None:
        """Release the slot's scene, which may be dropped from here on."""
        self._key_of_slot.pop(slot, None)

    def drop_scenes(self) -> None:
        """Free every scene that no slot holds."""
        for key in self._scenes.keys() - set(self._key_of_slot.values()):
            self._scenes.pop(key).close()
        trim()

    def close(self) -> None:
        """Free all scenes; safe to call twice."""
        while self._scenes:
            self._scenes.popitem()[1].close()

    def _encode(
        self, rendered: Observation | None, timings: dict[str, float]
    ) -> Observation | None:
        """Return what the pool wants of an observation; scenes keep what was rendered."""
        if rendered is None or self._spec.encoding is None:
            return rendered
        started = time.perf_counter()
        encoded = encode_observation(rendered, self._spec.encoding)
        timings["encode_s"] = time.perf_counter() - started
        return encoded

    def _scene(self, key: SceneKey, timings: dict[str, float], counts: dict[str, int]) -> "Scene":
        if key not in self._scenes:
            started = time.perf_counter()
            counts["scene_evictions"] = self._make_room()
            self._scenes[key] = self._build(key)
            counts["scene_builds"] = 1
            _note(timings, "build_s", started, 0.0)
        self._scenes.move_to_end(key)
        return self._scenes[key]

    def _build(self, key: SceneKey) -> "Scene":
        scene = self._make_scene(*key, self._spec, self._num_slots, self._num_steps_wait)
        trim()
        if self._exactness != "skip":
            self._check(scene)
        return scene

    def _check(self, scene: "Scene") -> None:
        """Compare the first scene of the process with LIBERO; later ones run the same code."""
        difference = find_difference(scene, CHECK_STEPS)
        if difference and self._exactness == "check":
            scene.close()
            raise ExactnessError(difference)
        if difference:
            logger.warning("%s", difference)
        self._exactness = "skip"

    def _inexact(self, slot: int, error: ExactnessError) -> Reply:
        """Report what ends the run; no scene has been kept."""
        return Reply(
            slot=slot,
            observation=None,
            is_success=False,
            num_steps=0,
            error=str(error),
            fault="inexact",
        )

    def _diverged(self, slot: int, error: DivergedError, timings: dict[str, float]) -> Reply:
        """End the slot's simulation alone: the scene and its other slots are as they were."""
        self._key_of_slot.pop(slot, None)
        return Reply(
            slot=slot,
            observation=None,
            is_success=False,
            num_steps=error.num_steps,
            error=str(error),
            fault="diverged",
            timings=timings,
        )

    def _crashed(self, slot: int, error: Exception, timings: dict[str, float]) -> Reply:
        """Drop the slot's scene, which the error may have left half-way between two slots."""
        key = self._key_of_slot.get(slot)
        self._key_of_slot = {n: k for n, k in self._key_of_slot.items() if k != key}
        if key is not None:
            self._scenes.pop(key).close()
            trim()
        return Reply(
            slot=slot,
            observation=None,
            is_success=False,
            num_steps=0,
            error=f"{type(error).__name__}: {error}",
            fault="raised",
            timings=timings,
        )

    def _make_room(self) -> int:
        """Drop scenes until one more is within the limit and return how many were dropped."""
        num_dropped = 0
        held = set(self._key_of_slot.values())
        while len(self._scenes) >= self._max_scenes:
            unused = next((key for key in self._scenes if key not in held), None)
            if unused is None:
                raise RuntimeError(f"all {self._max_scenes} scenes of the worker are in use")
            self._scenes.pop(unused).close()
            num_dropped += 1
        if num_dropped:
            trim()
        return num_dropped


def _pack(
    timings: dict[str, float], frames: NDArray[np.uint8] | None, drawing: float
) -> PackedFrames | None:
    if frames is None:
        return None
    started = time.perf_counter()
    packed = PackedFrames.pack(frames)
    timings["video_s"] = drawing + time.perf_counter() - started
    return packed


def _note(timings: dict[str, float], stage: str, started: float, drawing: float) -> None:
    timings[stage] = time.perf_counter() - started - drawing
    if drawing:
        timings["render_s"] = drawing
