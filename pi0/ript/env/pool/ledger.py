"""A pool's own record of its slots: which are busy, and which scenes each worker has."""

from collections.abc import Collection
from typing import Self

from pi0.ript.types import InitialState

SceneKey = tuple[str, int]
"""Suite and task number."""


class PoolClosedError(RuntimeError):
    """A request to a closed pool."""


class SceneLedger:
    """The scenes of one worker: those it has loaded and those its slots hold.

    A slot holds the scene of its last restore until it is released. The worker may drop a loaded
    scene that no slot holds, and nothing else, so a scene fits if the held ones leave room for it.
    """

    def __init__(self, max_scenes: int) -> None:
        """Take the number of scenes that the worker may keep loaded."""
        self._max_scenes = max_scenes
        self._held: dict[int, SceneKey] = {}
        self.loaded: Collection[SceneKey] = ()

    @property
    def held(self) -> frozenset[SceneKey]:
        """Return the scenes that must stay."""
        return frozenset(self._held.values())

    @property
    def scenes(self) -> frozenset[SceneKey]:
        """Return the scenes that are loaded or being loaded."""
        return frozenset(self.loaded) | self.held

    def fits(self, slot: int, scene: SceneKey) -> bool:
        """Return whether a slot may be restored to a scene within the limit."""
        held = {key for owner, key in self._held.items() if owner != slot}
        return len(held | {scene}) <= self._max_scenes

    def hold(self, slot: int, scene: SceneKey) -> None:
        """Note that a slot needs a scene from here on.

        Raises:
            ValueError: The scenes held by other slots leave no room.
        """
        if not self.fits(slot, scene):
            held = ", ".join(f"{suite}/{task}" for suite, task in sorted(self.scenes))
            raise ValueError(
                f"no room for scene {scene[0]}/{scene[1]} beside {held}: at most "
                f"{self._max_scenes} scenes per worker; release a slot or raise env.max_scenes"
            )
        self._held[slot] = scene

    def release(self, slot: int) -> None:
        """Note that a slot needs its scene no more."""
        self._held.pop(slot, None)


class SlotLedger:
    """Bookkeeping that every pool shares: slots with a request under way, and their workers' scenes."""

    def __init__(self, num_slots: int, num_workers: int, max_scenes: int) -> None:
        for name, value in (("num_slots", num_slots), ("num_workers", num_workers),
                            ("max_scenes", max_scenes)):  # fmt: skip
            if value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")
        self._num_slots = num_slots
        self._max_scenes = max_scenes
        self._busy: set[int] = set()
        self._is_closed = False
        self._ledgers = [SceneLedger(max_scenes) for _ in range(min(num_workers, num_slots))]

    @property
    def num_slots(self) -> int:
        """Return how many episodes can be under way at once."""
        return self._num_slots

    @property
    def num_workers(self) -> int:
        """Return how many processes share the slots."""
        return len(self._ledgers)

    def worker_of(self, slot: int) -> int:
        """Return which worker runs a slot; a worker runs its requests one after the other."""
        return slot % len(self._ledgers)

    def loaded_scenes(self, slot: int) -> frozenset[SceneKey]:
        """Return the scenes that are loaded, or being loaded, in the slot's worker."""
        return self._ledger(slot).scenes

    def can_restore(self, slot: int, scene: SceneKey) -> bool:
        """Return whether the scenes held by other slots leave room for this one."""
        return self._ledger(slot).fits(slot, scene)

    @property
    def local_pids(self) -> tuple[int, ...]:
        """Return the simulator processes on this machine; none where slots are in this process."""
        return ()

    def drop_scenes(self) -> None:
        """Free scenes that no slot holds, where memory is short; pools that keep none do nothing."""

    def close(self) -> None:
        """End every simulator and forget what is under way; safe to call twice."""
        self._is_closed = True
        self._busy.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ledger(self, slot: int) -> SceneLedger:
        return self._ledgers[self.worker_of(slot)]

    def _require_open(self) -> None:
        if self._is_closed:
            raise PoolClosedError("the simulator pool is closed; make a new one")

    def _begin(self, slot: int) -> None:
        """Note that a request of a slot is under way from here on."""
        self._require_open()
        if not 0 <= slot < self._num_slots:
            raise ValueError(f"slot must be in 0..{self._num_slots - 1}, got {slot}")
        if slot in self._busy:
            raise ValueError(f"slot {slot} already has a request under way")
        self._busy.add(slot)

    def _begin_restore(self, slot: int, initial_state: InitialState) -> None:
        """Note that a restore is under way and that the slot holds its scene from here on."""
        self._begin(slot)
        try:
            self._ledger(slot).hold(slot, (initial_state.suite, initial_state.task_id))
        except ValueError:
            self._busy.discard(slot)
            raise
