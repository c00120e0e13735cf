"""What callers of a runner get for every episode, in the order of their requests."""

from collections.abc import Generator
from contextlib import closing
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from pi0.records import Observation
from pi0.ript.types import Episode, PolicyStep


class EpisodeView(TypedDict):
    """One episode; T control steps, each real.

    Attributes:
        observations: T dicts; ``observations[t]`` is what the policy was given when it chose step t.
            The steps of one action chunk share one dict. Keys: ``images``, uint8
            [N, height, width, 3], upside-down as LIBERO gives them; ``robot0_eef_pos``, float64 [3]
            (m); ``robot0_eef_quat``, float64 [4] (x, y, z, w); ``robot0_gripper_qpos``, float64 [2]
            (m).
        actions: float32 [T, 7], as executed.
        rewards: float64 [T]; 1.0 at success.
        dones: bool [T]; True at success.
        infos: T dicts: ``decision``, the number of the policy step, and ``step_in_chunk``.
        valid: bool [T]; all True, nothing is padded.
        inference_steps: int64 [D]: the control steps at which the policy acted.
        task: The instruction.
        task_id: Task number within the suite.
        init_state: float64 [n], the flattened initial state.
        init_hash: Hash of the initial state, the same in every process.
        success: Whether the task was solved.
        total_reward: 1.0, 0.0, or NaN if the simulator crashed.
        seed: Seed of the episode's noise.
        outcome: ``success``, ``failure`` or ``crashed``.
        decisions: The policy steps: what the policy was given, drew and had executed.
        episode: The whole record.
    """

    observations: list[dict[str, NDArray[Any]]]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float64]
    dones: NDArray[np.bool_]
    infos: list[dict[str, int]]
    valid: NDArray[np.bool_]
    inference_steps: NDArray[np.int64]
    task: str
    task_id: int
    init_state: NDArray[np.float64]
    init_hash: str
    success: bool
    total_reward: float
    seed: int
    outcome: str
    decisions: tuple[PolicyStep, ...]
    episode: Episode


def episode_view(episode: Episode) -> EpisodeView:
    """Return the step-by-step view of an episode; images are shared, not copied."""
    success = episode.outcome == "success"
    state = episode.request.initial_state
    lengths = [policy_step.num_executed for policy_step in episode.policy_steps]
    steps = sum(lengths)
    chunks = [
        policy_step.chunk.actions[:n]
        for policy_step, n in zip(episode.policy_steps, lengths, strict=True)
    ]
    ends = np.zeros(steps, dtype=np.bool_)
    ends[-1:] = success
    return EpisodeView(
        observations=[
            observation
            for policy_step in episode.policy_steps
            for observation in [_as_dict(policy_step.observation)] * policy_step.num_executed
        ],
        actions=np.concatenate([np.zeros((0, 7), dtype=np.float32), *chunks]),
        rewards=ends.astype(np.float64),
        dones=ends,
        infos=[
            {"decision": number, "step_in_chunk": step}
            for number, length in enumerate(lengths)
            for step in range(length)
        ],
        valid=np.ones(steps, dtype=np.bool_),
        inference_steps=np.cumsum([0, *lengths], dtype=np.int64)[:-1],
        task=episode.task,
        task_id=state.task_id,
        init_state=state.state,
        init_hash=state.key,
        success=success,
        total_reward=float("nan") if episode.outcome == "crashed" else episode.reward,
        seed=episode.request.seed,
        outcome=episode.outcome,
        decisions=episode.policy_steps,
        episode=episode,
    )


def _as_dict(observation: Observation) -> dict[str, NDArray[Any]]:
    return {
        "images": observation.images,
        "robot0_eef_pos": observation.proprio[:3],
        "robot0_eef_quat": observation.proprio[3:7],
        "robot0_gripper_qpos": observation.proprio[7:],
    }


Result = tuple[bool, float, EpisodeView]
"""Success, total reward (0 or 1, NaN if the simulator crashed) and the episode."""


def in_request_order(episodes: Generator[Episode, None, None]) -> Generator[Result, None, None]:
    """Yield every result once its episode and those of the rollouts before it have finished."""
    early: dict[int, Episode] = {}
    due = 0
    with closing(episodes):
        for episode in episodes:
            early[episode.request.rollout] = episode
            while due in early:
                yield _result(early.pop(due))
                due += 1


def _result(episode: Episode) -> Result:
    view = episode_view(episode)
    return view["success"], view["total_reward"], view
