"""LIBERO's own recordings played again: what a policy would have observed, at its size, before every action.

The recipe of the public data sets: actions that do nothing are dropped, and only what succeeds again is kept.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pi0.records import ObservationSpec
from pi0.ript.config.task import TaskConfig
from pi0.ript.datasets.hdf5 import RecordedActions, read_actions, task_of, without_noops
from pi0.ript.datasets.recorded import RecordedEpisode
from pi0.ript.demos.settings import ReplaySettings
from pi0.ript.env.libero.scene import Scene
from pi0.ript.env.suites import resolve_task
from pi0.ript.interfaces import DivergedError
from pi0.ript.types import InitialState

logger = logging.getLogger(__name__)


def replay(
    scene: Scene, demo: RecordedActions, number: int, fixture_seed: int
) -> RecordedEpisode | None:
    """Play one demonstration in slot 0; None if it does not succeed again."""
    start = InitialState(
        suite=scene.suite,
        task_id=scene.task_id,
        index=-1,
        fixture_seed=fixture_seed,
        state=demo.state,
    )
    actions = without_noops(demo.actions)
    frames = []
    is_success = False
    try:
        observation = scene.restore(0, start)
        for action in actions:
            frames.append(observation)
            result = scene.execute(0, action[None])
            is_success = result.is_success
            if is_success or result.observation is None:
                break
            observation = result.observation
    except DivergedError:
        return None
    if not is_success:
        return None
    return RecordedEpisode(
        suite=scene.suite,
        task_id=scene.task_id,
        task=scene.language,
        state_index=number,
        fixture_seed=fixture_seed,
        seed=0,
        is_success=True,
        images=np.stack([frame.images for frame in frames]),
        proprio=np.stack([frame.proprio for frame in frames]),
        actions=actions[: len(frames)],
    )


def replay_files(
    files: Sequence[Path], spec: ObservationSpec, settings: ReplaySettings
) -> Iterator[RecordedEpisode]:
    """Yield what succeeds again, file by file, and log how much that was."""
    for path in files:
        task_id = resolve_task(settings.suite, task_of(path))
        demos = read_actions(path)[: settings.most]
        num_kept = 0
        scene = Scene(
            settings.suite, task_id, spec, num_slots=1, num_steps_wait=TaskConfig().num_steps_wait
        )
        try:
            for number, demo in enumerate(demos):
                episode = replay(scene, demo, number, settings.fixture_seed)
                if episode is not None:
                    num_kept += 1
                    yield episode
        finally:
            scene.close()
        logger.info("%s: %d of %d succeed again", path.name, num_kept, len(demos))
