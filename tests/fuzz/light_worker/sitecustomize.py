"""Gives simulator processes that find this folder on their path a scene without physics.

Python imports a module of this name by itself. The rest of such a process is the real one: its socket, its
messages, its shared memory and how it runs requests; it starts in a tenth of the time.
"""

from types import SimpleNamespace

import numpy as np

from pi0.records import Observation
from pi0.ript.env.pool import scene_host


class LightScene:
    """An arm whose pose is the sum of its actions, in an image whose shade shows the pose."""

    render_seconds = video_seconds = 0.0

    def __init__(self, suite, task_id, spec, num_slots, num_steps_wait):
        self._spec = spec
        self._poses = np.zeros((num_slots, 9))

    def is_settled(self, initial_state):
        return False

    def restore(self, slot, initial_state):
        self._poses[slot] = initial_state.state[:9]
        return self._observe(slot)

    def execute(self, slot, actions, *, observe, observe_when_solved, video):
        self._poses[slot, :7] += actions.sum(axis=0)
        return SimpleNamespace(
            observation=self._observe(slot), is_success=False, num_steps=len(actions), frames=None
        )

    def close(self):
        pass

    def _observe(self, slot):
        pose = self._poses[slot].copy()
        spec = self._spec
        shape = (len(spec.cameras), spec.height, spec.width, 3)
        shade = int(128 + 100 * np.tanh(pose.sum()))
        return Observation(images=np.full(shape, shade, np.uint8), proprio=pose)


DRIVER = {"GL vendor": "none", "GL renderer": "shades", "GL version": "1"}
scene_host.load_simulator = lambda: (LightScene, DRIVER)
scene_host.find_difference = lambda scene, num_steps: ""
