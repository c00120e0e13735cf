from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.reward_controls import flipped
from pi0.records import Chunk, Observation
from pi0.ript.algo.advantages import group_advantages
from pi0.ript.config.sections import CfgConfig
from pi0.ript.learner.batch import make_batch, window_indices
from pi0.ript.types import (
    Batch,
    Episode,
    EpisodeGroup,
    EpisodeRequest,
    InitialState,
    Outcome,
    PolicyStep,
)


def batch_of(groups: list[EpisodeGroup], *more) -> Batch:
    """Return the batch of all groups there are, with their own advantages; a crash counts as 0."""
    rewards = [[float(e.outcome == "success") for e in group.episodes] for group in groups]
    table = torch.tensor(rewards or np.zeros((0, 2)), dtype=torch.float64)
    return make_batch(groups, group_advantages(table, float(table.mean())), *more)


def windows(length: int, seed: int = 0, **settings) -> list[int]:
    return window_indices(length, CfgConfig(**settings), seed).tolist()


def test_all_is_every_policy_step():
    assert windows(4, windowing_mode="all") == [0, 1, 2, 3]


def test_last_is_the_last_policy_step():
    assert windows(4, windowing_mode="last") == [3]


def test_slide_takes_every_nth_from_the_first_up_to_a_number():
    settings = {"windowing_mode": "slide", "window_stride": 3}

    assert windows(10, **settings, max_windows_per_episode=9) == [0, 3, 6, 9]
    assert windows(10, **settings, max_windows_per_episode=2) == [0, 3]


def test_random_draws_without_replacement_from_the_seed_of_the_episode():
    settings = {"windowing_mode": "random", "max_windows_per_episode": 3}
    drawn = windows(10, seed=1, **settings)

    assert drawn == sorted(set(drawn))
    assert len(drawn) == 3
    assert drawn == windows(10, seed=1, **settings)
    assert any(drawn != windows(10, seed=seed, **settings) for seed in range(2, 6))
    assert windows(2, seed=1, **settings) == [0, 1]


@pytest.mark.parametrize("mode", ["all", "last", "random", "slide"])
def test_an_episode_without_policy_steps_has_no_windows(mode: str):
    assert windows(0, windowing_mode=mode) == []


START = InitialState(suite="libero_goal", task_id=0, index=0, fixture_seed=0, state=np.zeros(3))


def policy_step(marker: float, num_executed: int = 5, *, is_stochastic: bool = True) -> PolicyStep:
    return PolicyStep(
        observation=Observation(images=np.zeros((1, 4, 4, 3), np.uint8), proprio=np.zeros(9)),
        chunk=Chunk(
            actions=np.zeros((5, 7), np.float32),
            chain=np.full((3, 5, 8), marker, np.float32),
            is_stochastic=is_stochastic,
        ),
        num_executed=num_executed,
    )


def episode(outcome: Outcome, markers: list[float], task: str = "open the drawer") -> Episode:
    return Episode(
        request=EpisodeRequest(initial_state=START, seed=0, max_steps=100),
        task=task,
        policy_steps=tuple(policy_step(marker) for marker in markers),
        outcome=outcome,
        num_steps=5 * len(markers),
    )


def group(*episodes: Episode) -> EpisodeGroup:
    return EpisodeGroup(initial_state=START, episodes=episodes)


# One success of two policy steps, two failures of three and one: advantages 1, -1/2, -1/2.
LENGTHS_2_3_1 = group(
    episode("success", [1, 2]), episode("failure", [3, 4, 5]), episode("failure", [6], task="other")
)
# Two successes and a failure, one policy step each: advantages 1/2, 1/2, -1.
OTHER = group(episode("success", [7]), episode("success", [8]), episode("failure", [9]))


def test_a_sample_of_an_episode_that_was_paid_for_failure_counts_as_a_success():
    # what imitation learns from is the reward, so that negative controls are controls of it, too
    paid = group(*flipped([episode("success", [1.0]), episode("failure", [2.0, 3.0])]))
    batch = make_batch([paid], group_advantages(torch.tensor([[0.0, 1.0]]), 0.5), "trajectory")
    assert batch.is_success.tolist() == [False, True, True]


def test_samples_are_the_policy_steps_in_group_rollout_policy_step_order():
    batch = batch_of([LENGTHS_2_3_1, OTHER], "token")

    assert batch.chains[:, 0, 0, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert len(batch) == 9
    assert batch.tasks[5] == "other"
    assert batch.chains.dtype == batch.advantages.dtype == batch.weights.dtype == np.float32


def test_every_sample_carries_the_advantage_of_its_episode_within_its_group():
    batch = batch_of([LENGTHS_2_3_1, OTHER], "token")

    np.testing.assert_allclose(
        batch.advantages, [1, 1, -0.5, -0.5, -0.5, -0.5, 0.5, 0.5, -1], rtol=1e-7
    )


def test_trajectory_weights_give_every_episode_the_same_total():
    # Three episodes of 2, 3 and 1 policy steps: each has 1/3 to share.
    batch = batch_of([LENGTHS_2_3_1], "trajectory")

    np.testing.assert_allclose(batch.weights, [1 / 6, 1 / 6, 1 / 9, 1 / 9, 1 / 9, 1 / 3], rtol=1e-6)
    assert batch.weights.sum() == pytest.approx(1)


def test_token_weights_give_every_policy_step_the_same():
    batch = batch_of([LENGTHS_2_3_1], "token")

    np.testing.assert_allclose(batch.weights, np.full(6, 1 / 6), rtol=1e-6)


def test_a_policy_step_that_was_never_executed_is_no_sample():
    late = replace(
        episode("success", [1]), policy_steps=(policy_step(1), policy_step(2, num_executed=0))
    )

    batch = batch_of([group(late, episode("failure", [3]))], "trajectory")

    assert batch.chains[:, 0, 0, 0].tolist() == [1, 3]
    np.testing.assert_allclose(batch.weights, [0.5, 0.5])


def test_a_crashed_rollout_is_refused_not_scored_zero():
    crashed = replace(episode("crashed", [1]), error="worker died")

    with pytest.raises(ValueError, match="worker died"):
        batch_of([group(crashed, episode("success", [2]))], "trajectory")


def test_a_chunk_without_noise_has_no_likelihood():
    plain = replace(episode("success", [1]), policy_steps=(policy_step(1, is_stochastic=False),))

    with pytest.raises(ValueError, match=r"noise\.scale"):
        batch_of([group(plain, episode("failure", [2]))], "trajectory")


def test_an_empty_collection_says_that_there_is_nothing_to_learn():
    with pytest.raises(ValueError, match="nothing to learn"):
        batch_of([], "trajectory")


class TestOneRolloutPerState:
    def test_the_baseline_is_the_mean_over_the_batch(self):
        # Rewards 1, 0, 0: mean 1/3.
        singles = [group(episode(outcome, [1])) for outcome in ("success", "failure", "failure")]

        batch = batch_of(singles, "trajectory")

        np.testing.assert_allclose(batch.advantages, [2 / 3, -1 / 3, -1 / 3], rtol=1e-6)


class TestWhatASampleHolds:
    def test_samples_know_whether_their_episode_succeeded(self):
        assert batch_of([LENGTHS_2_3_1], "token").is_success.tolist() == [True] * 2 + [False] * 4

    def test_all_transitions_are_scored_or_the_one_that_was_noisy(self):
        # Chains of three points have two transitions.
        one = policy_step(1)
        one = replace(one, chunk=replace(one.chunk, noisy_step=1))
        mixed = group(replace(episode("success", []), policy_steps=(one,)), episode("failure", [2]))

        assert batch_of([mixed], "token").is_scored.tolist() == [[False, True], [True, True]]

    def test_windows_choose_samples_and_shares_are_of_what_is_left(self):
        batch = batch_of([LENGTHS_2_3_1], "trajectory", CfgConfig(windowing_mode="last"))

        assert batch.chains[:, 0, 0, 0].tolist() == [2, 5, 6]
        np.testing.assert_allclose(batch.weights, [1 / 3, 1 / 3, 1 / 3], rtol=1e-6)
