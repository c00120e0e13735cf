"""Small episodes for the tests of this folder."""

import numpy as np

from pi0.records import Chunk, Observation
from pi0.ript.types import Episode, EpisodeRequest, InitialState, PolicyStep


def make_episode(
    *, outcome="success", num_policy_steps=3, task="open it", height=6, width=9, record_video=False
):
    """Return an episode whose image n is dark at the top half and n at the bottom half."""
    state = InitialState(
        suite="libero_goal", task_id=7, index=33, fixture_seed=0, state=np.zeros(4)
    )
    policy_steps = []
    for n in range(num_policy_steps):
        images = np.zeros((2, height, width, 3), dtype=np.uint8)
        images[:, height // 2 :] = 50 * n % 256
        chunk = Chunk(
            actions=np.zeros((2, 7), dtype=np.float32),
            chain=np.zeros((3, 4, 8), dtype=np.float32),
            is_stochastic=False,
        )
        observation = Observation(images=images, proprio=np.zeros(9))
        policy_steps.append(PolicyStep(observation=observation, chunk=chunk, num_executed=2))
    return Episode(
        request=EpisodeRequest(
            initial_state=state, seed=5, max_steps=10, record_video=record_video
        ),
        task=task,
        policy_steps=tuple(policy_steps),
        outcome=outcome,
        num_steps=2 * num_policy_steps,
    )
