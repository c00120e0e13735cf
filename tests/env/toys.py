"""A pool and policies small enough to read at a glance, for tests that need no simulator."""

import random

import numpy as np

from pi0.records import Chunk, Observation, ObservationSpec
from pi0.ript.env.checks import check_actions
from pi0.ript.env.pool.ledger import SlotLedger
from pi0.ript.interfaces import Reply
from pi0.ript.packed_frames import PackedFrames
from pi0.ript.types import EpisodeRequest, InitialState

SPEC = ObservationSpec(cameras=("agentview",), height=32, width=32)
HORIZON = 4


def toy_state(number=0, task_id=0):
    """An initial state whose toy episode succeeds after ``number`` steps; 0 never does."""
    return InitialState(
        suite="libero_goal",
        task_id=task_id,
        index=number,
        fixture_seed=0,
        state=np.array([float(number)]),
    )


def toy_request(seed, succeeds_after=0, max_steps=10, task_id=0, **rest):
    state = toy_state(succeeds_after, task_id)
    return EpisodeRequest(initial_state=state, seed=seed, max_steps=max_steps, **rest)


class ToyPool(SlotLedger):
    """A running sum of actions per slot. Replies come back a few at a time, in random order.

    ``crashes`` maps the number of a request (0, 1, ...) to the error it ends with, ``fault`` is their
    kind, after ``crash_steps`` steps. Every slot is a worker of its own unless ``num_workers`` says otherwise.
    """

    def __init__(
        self,
        num_slots,
        shuffle_seed=0,
        crashes=None,
        num_workers=None,
        max_scenes=1,
        fault="raised",
        crash_steps=0,
    ):
        super().__init__(num_slots, num_workers or num_slots, max_scenes)
        self.num_requests = 0
        self.restored = []
        self.observations = []
        self.videos = []
        self.built = []
        self.max_under_way = 0
        self._random = random.Random(shuffle_seed)
        self._crashes = crashes or {}
        self._fault, self._crash_steps = fault, crash_steps
        self._replies = {}
        self._sums = {}
        self._left = {}

    def restore(self, slot, initial_state):
        self._begin_restore(slot, initial_state)
        self._load(slot, (initial_state.suite, initial_state.task_id))
        self._sums[slot] = 0.0
        self._left[slot] = initial_state.index or 10**9
        self.restored.append((slot, initial_state.task_id))
        self._reply(slot, 0)

    def _load(self, slot, scene):
        """Keep the scene as the last of the loaded ones and drop the first that no slot holds."""
        ledger = self._ledger(slot)
        if scene not in ledger.loaded:
            self.built.append((self.worker_of(slot), scene[1]))
        loaded = [key for key in ledger.loaded if key != scene]
        if len(loaded) == self._max_scenes:
            loaded.remove(next(key for key in loaded if key not in ledger.held))
        ledger.loaded = (*loaded, scene)

    def execute(self, slot, actions, *, observe=True, video=False):
        check_actions(actions)
        self._begin(slot)
        num_steps = min(len(actions), self._left[slot])
        self._left[slot] -= num_steps
        self._sums[slot] += float(actions[:num_steps].sum())
        self.observations.append(observe)
        self.videos.append(video)
        self._reply(slot, num_steps, video=video)

    def release(self, slot):
        assert slot not in self._replies, "the slot is still busy"
        self._ledger(slot).release(slot)

    @property
    def busy(self):
        """The slots that have a request under way."""
        return frozenset(self._busy)

    def _reply(self, slot, num_steps, *, video=False):
        error = self._crashes.get(self.num_requests, "")
        self.num_requests += 1
        observation = Observation(
            images=np.zeros((1, 2, 2, 3), np.uint8), proprio=np.full(9, self._sums[slot])
        )
        self._replies[slot] = Reply(
            slot=slot,
            observation=None if error else observation,
            is_success=self._left[slot] == 0,
            num_steps=self._crash_steps if error else num_steps,
            error=error,
            fault=self._fault if error else "",
            frames=self._video(num_steps) if video and not error else None,
            timings={"physics_s": 0.5},
        )
        self.max_under_way = max(self.max_under_way, len(self._replies))

    def _video(self, num_steps):
        """An image per step that shows the number of the request."""
        shape = (num_steps, 1, 2, 2, 3)
        return PackedFrames.pack(np.full(shape, self.num_requests, np.uint8))

    def wait(self):
        assert self._replies, "nothing is under way"
        slots = self._random.sample(
            sorted(self._replies), self._random.randint(1, len(self._replies))
        )
        self._busy -= set(slots)
        return [self._replies.pop(slot) for slot in slots]


class ToyPolicy:
    """Acts on the observation and the seed only, and notes the size of every batch."""

    spec = SPEC

    def __init__(self):
        self.batches = []
        self.seeds = []

    def act(self, observations, tasks, seeds, sampling):
        assert all(tasks)
        self.batches.append(len(observations))
        self.seeds += seeds
        return [self._chunk(*sample) for sample in zip(observations, seeds, strict=True)]

    def _chunk(self, observation, seed):
        noise = np.random.default_rng(seed).normal(0, 0.3, (HORIZON, 7))
        # The image moves the action by up to 0.2, so wrong pixels would show in the episode.
        shift = observation.images.mean() / 1275 + 0.1 * observation.proprio[0]
        actions = np.clip(noise + shift, -1, 1).astype(np.float32)
        chain = np.stack([actions, actions])
        return Chunk(actions=actions, chain=chain, is_stochastic=True)
