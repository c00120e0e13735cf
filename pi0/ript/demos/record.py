"""Let the scripted experts act on real LIBERO and keep what a policy would have observed."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pi0.records import Observation, ObservationSpec
from pi0.ript.config.task import TaskConfig
from pi0.ript.datasets.demonstrations import Demonstrations
from pi0.ript.datasets.recorded import RecordedEpisode
from pi0.ript.demos.experts.tables import EXPERTS
from pi0.ript.demos.settings import DemoSettings
from pi0.ript.env.initial_states import training_states
from pi0.ript.env.libero.scene import Scene
from pi0.ript.env.suites import step_limit
from pi0.ript.interfaces import DivergedError
from pi0.ript.seeding import derive_seed
from pi0.ript.types import InitialState

logger = logging.getLogger(__name__)


class ScenePoses:
    """The expert's privileged view of one slot of a scene."""

    def __init__(self, scene: Scene, slot: int = 0) -> None:
        self._scene = scene
        self._slot = slot

    def position(self, body: str) -> NDArray[np.float64]:
        """Return the position of a body in the world, float64 [3], m."""
        return self._scene.body_pose(self._slot, body)[0]

    def orientation(self, body: str) -> NDArray[np.float64]:
        """Return the orientation of a body in the world, float64 [4], w first."""
        return self._scene.body_pose(self._slot, body)[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertEpisode:
    """Frames, the control step each was taken at, and two actions at every step, float32 [T, 7] each.

    ``actions`` are the expert's own, ``executed`` those with noise.
    """

    frames: tuple[Observation, ...]
    frame_steps: tuple[int, ...]
    actions: NDArray[np.float32]
    executed: NDArray[np.float32]
    is_success: bool


def run_expert(
    scene: Scene, initial_state: InitialState, seed: int, settings: DemoSettings
) -> ExpertEpisode:
    """Run the expert once from an initial state of the scene's task; physics that diverge are a failure."""
    rng = np.random.Generator(np.random.Philox(seed))
    noise_std = rng.uniform(0, settings.action_noise) * np.array([1, 1, 1, 0.3, 0.3, 0.3, 0])
    limit = step_limit(scene.suite, "openpi", settings.max_steps)
    frames: list[Observation] = []
    steps: list[int] = []
    actions, done = [], []
    is_success = False
    try:
        frames.append(scene.restore(0, initial_state))
        steps.append(0)
        for action in EXPERTS[scene.suite, scene.task_id](ScenePoses(scene)):
            actions.append(action)
            noise = noise_std * rng.standard_normal(7)
            executed = np.clip(action + noise, -1, 1).astype(np.float32)
            done.append(executed)
            is_frame = len(actions) % settings.frame_every == 0
            result = scene.execute(0, executed[None], observe=is_frame)
            is_success = result.is_success
            if is_success or len(actions) == limit:
                break
            if is_frame and result.observation is not None:
                frames.append(result.observation)
                steps.append(len(actions))
    except DivergedError as error:
        logger.warning("an attempt failed: %s", error)
    return ExpertEpisode(
        frames=tuple(frames),
        frame_steps=tuple(steps),
        actions=np.array(actions, dtype=np.float32),
        executed=np.array(done, dtype=np.float32),
        is_success=is_success,
    )


def chunk_labels(episode: ExpertEpisode, horizon: int) -> NDArray[np.float32]:
    """Return float32 [F, H, 7]: the expert's next H actions per frame; the last action is held."""
    last = len(episode.actions) - 1
    indices = [np.minimum(np.arange(step, step + horizon), last) for step in episode.frame_steps]
    return episode.actions[np.stack(indices)]


def attempts(
    suite: str, task_id: int, settings: DemoSettings
) -> Iterator[tuple[InitialState, int]]:
    """Yield (initial state, seed), cycling through the training states, fixtures drawn for each attempt."""
    states = training_states(
        suite,
        task_id,
        count=settings.max_attempts,
        held_out=settings.num_held_out_states,
        fixture_seed=settings.fixture_seed,
        draw=(settings.seed,),
    )
    for attempt, state in enumerate(states):
        yield state, derive_seed(settings.seed, suite, task_id, attempt)


def recorded_episodes(
    suite: str, task_id: int, spec: ObservationSpec, settings: DemoSettings
) -> Iterator[RecordedEpisode]:
    """Yield ``per_task`` successes of one task with an image per control step and the actions as executed."""
    every_step = replace(settings, frame_every=1)
    scene = Scene(suite, task_id, spec, num_slots=1, num_steps_wait=TaskConfig().num_steps_wait)
    num_kept = 0
    try:
        for initial_state, seed in attempts(suite, task_id, settings):
            episode = run_expert(scene, initial_state, seed, every_step)
            if episode.is_success:
                num_kept += 1
                yield RecordedEpisode(
                    suite=suite,
                    task_id=task_id,
                    task=scene.language,
                    state_index=initial_state.index,
                    fixture_seed=initial_state.fixture_seed,
                    seed=seed,
                    is_success=True,
                    images=np.stack([frame.images for frame in episode.frames]),
                    proprio=np.stack([frame.proprio for frame in episode.frames]),
                    actions=episode.executed,
                )
            if num_kept == settings.per_task:
                return
    finally:
        scene.close()


def record_task(
    suite: str, task_id: int, spec: ObservationSpec, settings: DemoSettings
) -> Demonstrations:
    """Record one task until ``per_task`` successes are kept.

    Raises:
        RuntimeError: No attempt succeeded.
    """
    scene = Scene(suite, task_id, spec, num_slots=1, num_steps_wait=TaskConfig().num_steps_wait)
    kept: list[ExpertEpisode] = []
    num_attempts = 0
    try:
        for initial_state, seed in attempts(suite, task_id, settings):
            episode = run_expert(scene, initial_state, seed, settings)
            num_attempts += 1
            kept += [episode] if episode.is_success else []
            if len(kept) == settings.per_task:
                break
    finally:
        scene.close()
    if not kept:
        raise RuntimeError(
            f"the expert of {suite}/{task_id} never succeeded in {num_attempts} attempts; raise --max_attempts or lower "
            "--action_noise"
        )
    frames = [frame for episode in kept for frame in episode.frames]
    return Demonstrations(
        suite=suite,
        task_id=task_id,
        task=scene.language,
        images=np.stack([frame.images for frame in frames]),
        proprio=np.stack([frame.proprio for frame in frames]),
        actions=np.concatenate([chunk_labels(episode, settings.horizon) for episode in kept]),
        num_attempts=num_attempts,
        num_successes=len(kept),
        num_steps=sum(len(episode.actions) for episode in kept),
        episode_index=np.repeat(np.arange(len(kept)), [len(episode.frames) for episode in kept]),
        cameras=spec.cameras,
    )
