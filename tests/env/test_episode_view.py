"""The step-by-step dict that users of the runners get."""

import math

import numpy as np

from pi0.records import Chunk, Observation
from pi0.ript.env.episode_view import episode_view
from pi0.ript.types import Episode, PolicyStep
from tests.env.toys import toy_request


def policy_step(number, num_executed):
    return PolicyStep(
        observation=Observation(
            images=np.zeros((1, 2, 2, 3), np.uint8), proprio=np.full(9, float(number))
        ),
        chunk=Chunk(
            actions=np.full((4, 7), 0.1 * number, np.float32),
            chain=np.zeros((2, 4, 7), np.float32),
            is_stochastic=True,
        ),
        num_executed=num_executed,
    )


def episode(outcome):
    # Two policy steps of 4 actions; success came after the second action of the second one.
    return Episode(
        request=toy_request(9, max_steps=6),
        task="t",
        policy_steps=(policy_step(0, 4), policy_step(1, 2)),
        outcome=outcome,
        num_steps=6,
    )


def test_observation_t_is_what_action_t_was_chosen_from():
    view = episode_view(episode("success"))

    assert [each["robot0_eef_pos"][0] for each in view["observations"]] == [0, 0, 0, 0, 1, 1]
    np.testing.assert_allclose(view["actions"][:, 0], [0, 0, 0, 0, 0.1, 0.1], rtol=1e-6)
    assert view["inference_steps"].tolist() == [0, 4]
    assert view["infos"][5] == {"decision": 1, "step_in_chunk": 1}


def test_every_step_is_real_and_only_success_is_rewarded():
    solved, failed = episode_view(episode("success")), episode_view(episode("failure"))

    assert solved["valid"].tolist() == [True] * 6
    assert solved["rewards"].tolist() == [0, 0, 0, 0, 0, 1]
    assert solved["dones"].tolist() == [False] * 5 + [True]
    assert not failed["rewards"].any()
    assert (solved["total_reward"], failed["total_reward"]) == (1.0, 0.0)


def test_a_crash_has_no_reward():
    view = episode_view(episode("crashed"))

    assert view["outcome"] == "crashed"
    assert view["success"] is False
    assert math.isnan(view["total_reward"])
